"""Every published command with every argument, against the parsers that really run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TOLD = yaml.safe_load((HERE / "published_commands.yaml").read_text())
SPEC = ROOT.parent / "shared" / "spec" / "tools.md"
WORDS = {
    "use_cav": "[1,2]", "aggregation": "nms", "task": "segmentation", "subset": "0.5", "noise": "0.2",
    "score_threshold": "0.3",
} | dict.fromkeys(("seed", "epoch", "save_vis_interval"), "3")  # fmt: skip
PROFILERS = [tool for tool in TOLD if tool.startswith("profiler/")] + ["model_cal", "inference_time"]
ALIASES = {
    "cal_param": "inspect_checkpoint.py",
    "compare_ckpt": "inspect_checkpoint.py",
    "inference_heter_task": "inference_heter_task_average.py",
    "train_gmatch": "train.py",
    "train_gmatch_ddp": "train_ddp.py",
} | dict.fromkeys(PROFILERS, "profile.py")
# Not arguments of tools of ours: of torch's launcher.
OF_OTHERS = {"nproc_per_node", "use_env"}


def said(tool: str) -> dict[str, Any]:
    """What is published of a tool, that of another tool that it equals included."""
    own = TOLD[tool]
    base = said(own["same"]) if "same" in own else {}
    return {key: {**base.get(key, {}), **own.get(key, {})} for key in ("arguments", "short", "better")} | {
        "lines": own.get("lines", base.get("lines", []))
    }


def words_of(tool: str) -> dict[str, str | None]:
    """A word for each argument; None for a flag."""
    published = said(tool)["arguments"]
    return {name: None if default == "flag" else WORDS.get(name, "x") for name, default in published.items()}


@pytest.mark.parametrize("tool", [tool for tool in TOLD if said(tool)["arguments"]])
def test_every_argument_is_accepted(tool: str, parsed: Any) -> None:
    published, words = said(tool), words_of(tool)
    line = [word for name, value in words.items() for word in (f"--{name}", value) if word is not None]
    parser, given = parsed(tool, *line)
    actions = {option: action for action in parser._actions for option in action.option_strings}
    for name, default in published["arguments"].items():
        action = actions[f"--{name}"]
        assert (name not in published["short"]) or f"-{published['short'][name]}" in action.option_strings
        assert action.required is (default == "required"), name
        value = getattr(given, action.dest)
        if words[name] is None:
            assert value not in (None, False), name
            continue
        read = (action.type or str)(words[name])
        assert value == ([read] if isinstance(value, list) else read), name
        if default not in ("required", "value") and name not in published["better"]:
            assert action.default == default, name


@pytest.mark.parametrize(("tool", "line"), [(tool, line) for tool in TOLD for line in said(tool)["lines"]])
def test_every_line_is_accepted(tool: str, line: str, parsed: Any) -> None:
    parsed(tool, *line.split())


@pytest.mark.parametrize(("tool", "better"), ALIASES.items())
def test_an_alias_says_once_what_it_is_called_here(tool: str, better: str, parsed: Any, caplog: Any) -> None:
    inference = ["--model_dir", "x"] if tool.startswith("inference_heter") else ["-y", "x"]
    words = said(tool)["lines"][0].split() if said(tool)["lines"] else inference
    with caplog.at_level("INFO", logger="opencood"):
        parsed(tool, *words)
    [told] = [message for message in caplog.messages if "is the published name of" in message]
    assert told.split()[-1] == better or f" {better} " in told
    assert (ROOT / "opencood" / "tools" / better).is_file()


def test_defaults_that_differ_are_said_to() -> None:
    for tool in TOLD:
        published = said(tool)
        assert set(published["better"]) <= set(published["arguments"]), tool


@pytest.mark.skipif(not SPEC.is_file(), reason="the specification is not here")
def test_nothing_published_is_left_out() -> None:
    text = SPEC.read_text()
    options = set(re.findall(r"`--(\w+)", text)) | set(re.findall(r" --(\w+)", text))
    listed = {name for tool in TOLD for name in said(tool)["arguments"]}
    assert options - listed - OF_OTHERS == set()
    tools: set[str] = set()
    for table in re.findall(r"^\| tool \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            tools |= set(re.findall(r"`([\w/]+)`", row.split("|")[1]))
    assert {"train_gmatch_ddp", "heal_tools", "check_tf", "profiler/params_calc"} <= tools
    folders = {name.rpartition("/")[2]: name for name in TOLD}
    assert {tool for tool in tools if tool not in TOLD and tool not in folders} == set()
