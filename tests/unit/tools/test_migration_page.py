"""docs/migration.md: every command is one that a tool here reads, every file is there, every switch is told."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from opencood.config.flavor import FLAVORS, SHIPPED
from opencood.config.quirks import QUIRKS
from opencood.models.unavailable import why_unavailable

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "migration.md").read_text()
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
TOOLS = [line for line in COMMANDS if line.startswith("python opencood/tools/")]
REPOSITORIES = ("OpenCOOD", "CoAlign", "HEAL", "GenComm", "CodeFilling", "CodeAlign", "CooPre", "V2X-Real", "V2V4Real",
                "STAMP")  # fmt: skip


@pytest.mark.parametrize("line", TOOLS)
def test_a_tool_reads_it(line: str, parsed: Any) -> None:
    _, script, *words = shlex.split(line)
    assert (ROOT / script).is_file()
    parsed(script.removeprefix("opencood/tools/").removesuffix(".py"), *words)
    for word in words:
        assert not word.startswith(("opencood/hypes_yaml/", "opencood/recipes/")) or (ROOT / word).is_file(), word


def test_all_trainings_are_those_of_the_smoke_recipes() -> None:
    """They are run there, at the smallest size."""
    run = {
        stage["train"]
        for recipe in (ROOT / "opencood" / "recipes" / "smoke").glob("[!_]*.yaml")
        for stage in yaml.safe_load(recipe.read_text())["stages"].values()
        if "train" in stage
    }
    told = set(re.findall(r"train\w*\.py -y opencood/hypes_yaml/(\S+)", "\n".join(COMMANDS)))
    assert told and told <= run
    assert all((SHIPPED / name).is_file() for name in told)


def test_every_repository_has_a_section_with_commands() -> None:
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
    for repository in REPOSITORIES:
        [section] = [text for title, text in sections.items() if repository in title.split(" and ")]
        assert "```\npython opencood/tools/" in section, repository


def shown(value: Any) -> str:
    return (
        " x ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else "-" if value is None else str(value)
    )


def row_of(name: str) -> str | None:
    """The line of the page about a switch; None where both parities agree."""
    entry = QUIRKS[name]
    values = {flavor: (entry.value(flavor, "published"), entry.value(flavor, "fixed")) for flavor in FLAVORS}
    who = [flavor for flavor, (published, fixed) in values.items() if published != fixed]
    if not who:
        return None
    others = ", ".join(flavor for flavor in FLAVORS if flavor not in who)
    where = ", ".join(who) if len(who) < 6 else f"all but {others}" if others else "all"
    published, fixed = map(shown, values[who[0]])
    return f"| `{name}` | {where} | {entry.meaning} | {published} | {fixed} |"


def test_every_switch_that_differs_is_told_with_its_values() -> None:
    """Paste the lines that are missing."""
    rows = [row for row in map(row_of, QUIRKS) if row is not None]
    assert [row for row in rows if row not in PAGE.splitlines()] == []
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert told == {row.split("`")[1] for row in rows}


@pytest.mark.parametrize("name", ["heter_diffcomm_single", "x_gmatch", "point_transformer", "heter_stamp"])
def test_what_is_not_available_is_refused(name: str) -> None:
    assert why_unavailable(name)
