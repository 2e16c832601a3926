"""Tables that were run, kept with what is needed to run them again, and the page that gathers them.

A kept table is a folder with ``run.yaml`` (title, command, date, seconds, seeds, machine, code) and ``table.md``; that
of a recipe also holds the recipe, the numbers as ``summary.yaml`` and ``rows.csv``, and the seconds of its stages; that
of a sweep every figure as ``table.csv``. Pictures in the folder are shown below the table.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opencood.errors import DataError
from opencood.evaluation.files import read_yaml, write_text, write_yaml
from opencood.experiments.machine import machine_facts
from opencood.experiments.protocol import code_version
from opencood.experiments.recipe_pictures import picture_files
from opencood.experiments.recipe_run import Runner

FACTS = "run.yaml"
TABLE = "table.md"
NEEDED = ("title", "command", "date", "seconds", "seeds", "machine")


def keep_table(
    folder: Path, title: str, command: str, seconds: float, seeds: Sequence[int], table: str, **besides: Any
) -> Path:
    """Keep a Markdown table with the circumstances under which it was just made.

    ``besides`` are more facts; a ``remark`` is shown above the table.
    """
    facts = {
        "title": title,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds),
        "seeds": list(seeds),
        "machine": machine_facts(),
        "code": code_version(),
        **besides,
    }
    write_text(folder / TABLE, table.rstrip() + "\n")
    return write_yaml(folder / FACTS, facts)


def keep_recipe(runner: Runner, folder: Path, remark: str = "") -> Path:
    """Keep the table of a recipe that has run, with the recipe itself, below ``folder``.

    The seconds are those that its stages took, however many calls they were spread over.
    """
    recipe = runner.recipe
    kept = folder / recipe.name
    seconds = sum(record.seconds for record in runner.records.values())
    command = f"python opencood/tools/run_recipe.py {recipe.file}"
    stages = {
        name: {"seconds": round(record.seconds), "cpu_seconds": round(record.cpu_seconds)}
        for name, record in runner.records.items()
    }
    cpu_seconds = round(sum(record.cpu_seconds for record in runner.records.values()))
    besides = {"cpu_seconds": cpu_seconds, "stages": stages, **({"remark": remark} if remark else {})}
    table = (recipe.out / TABLE).read_text()
    keep_table(kept, recipe.title, command, seconds, recipe.seeds, table, **besides)
    shutil.copyfile(recipe.file, kept / "recipe.yaml")
    keep_files([*(recipe.out / name for name in ("summary.yaml", "rows.csv")), *picture_files(recipe)], kept)
    return kept


def keep_files(files: Sequence[Path], folder: Path) -> None:
    """Copy a table's numbers and pictures beside it, over those of an earlier run."""
    for file in files:
        shutil.copyfile(file, folder / file.name)


def results_page(folder: Path, place: Path | None = None) -> str:
    """All kept tables below ``folder`` as one Markdown page, by title.

    Args:
        folder: holds one folder for each kept table.
        place: folder of the page, where links to pictures begin; default: the working directory.

    Raises:
        DataError: there is none, or one is incomplete.
    """
    kept = [(_facts(file), file.parent) for file in sorted(folder.glob(f"*/{FACTS}"))]
    if not kept:
        raise DataError(f"{folder}: holds no {FACTS}. `run_recipe.py RECIPE.yaml --publish {folder}` makes one.")
    parts = [
        "# Results that were run here",
        "Made by `python opencood/tools/gather_results.py`; each table lies with its circumstances in "
        f"`{folder}/<name>/`. All on simulated data: they show that methods work and how they compare at toy size, not "
        "what a paper reports.",
        *(_section(facts, kept_in, place or Path()) for facts, kept_in in sorted(kept, key=_title)),
    ]
    return "\n\n".join(parts) + "\n"


def write_page(folder: Path, page: Path) -> Path:
    """Write the page of all kept tables below ``folder``."""
    return write_text(page, results_page(folder, page.parent))


def _title(kept: tuple[Mapping[str, Any], Path]) -> str:
    return str(kept[0]["title"])


def _facts(file: Path) -> Mapping[str, Any]:
    facts = read_yaml(file)
    missing = [key for key in NEEDED if key not in facts]
    if missing or not (file.parent / TABLE).is_file():
        raise DataError(f"{file}: incomplete ({', '.join(missing) or f'no {TABLE} beside it'}). Publish it again.")
    return facts


def _section(facts: Mapping[str, Any], kept_in: Path, page: Path) -> str:
    machine = facts["machine"]
    where = machine["gpu"] or f"{machine['cores']} cores {machine['architecture']}, no GPU"
    seeds = ", ".join(str(seed) for seed in facts["seeds"])
    spent = f"{facts['seconds'] / 60:.0f} minutes"
    if "cpu_seconds" in facts:  # those of all cores say more where the machine was shared, or the recipe
        spent += f", {facts['cpu_seconds'] / 60:.0f} of CPU time"
    circumstances = f"{facts['date']}; {where}; torch {machine['torch']}; seeds {seeds}; {spent}"
    table = (kept_in / TABLE).read_text().rstrip()
    pictures = [f"![{file.stem}]({os.path.relpath(file, page)})" for file in sorted(kept_in.glob("*.png"))]
    remark = [facts["remark"].strip()] if "remark" in facts else []
    head = [f"## {facts['title']}", f"    {facts['command']}", f"{circumstances}."]
    return "\n\n".join([*head, *remark, table, *pictures])
