"""list_methods: every registered name, by kind, one line each; runs from a clone that is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opencood.errors import ConfigError
from opencood.experiments.methods import Method, format_methods, list_methods
from opencood.tools.list_methods import main

ROOT = Path(__file__).resolve().parents[3]


def test_names_of_one_kind(capsys: Any) -> None:
    assert main(["yaml_parser"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "yaml_parser:"
    assert any("load_general_params, load_lift_splat_shoot_params" in line for line in lines)
    assert all(line.startswith("  ") and len(line.split()) > 3 for line in lines[1:])


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'yaml_parser'"):
        list_methods("yaml_parsr")


def test_aliases_share_a_line_and_kinds_have_headings() -> None:
    methods = [Method("a", ("x", "y"), "First."), Method("a", ("z",), "Second."), Method("b", ("x",), "Third.")]
    assert format_methods(methods).splitlines() == [
        "a:",
        "  x, y  First.",
        "  z     Second.",
        "",
        "b:",
        "  x     Third.",
    ]
    assert format_methods([]) == "nothing is registered"


def run_script(tool: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a tool as a script, from the clone's root, with no installed package to find."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, f"opencood/tools/{tool}.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False)


def test_as_a_script_with_nonsense_devices() -> None:
    done = run_script("list_methods", "yaml_parser", CUDA_VISIBLE_DEVICES="x")
    assert done.returncode == 0, done.stderr
    assert "load_second_params" in done.stdout
    assert "CUDA_VISIBLE_DEVICES=x" in done.stderr


def test_user_errors_are_one_line_and_exit_code_2() -> None:
    done = run_script("list_methods", "yaml_parsr")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: unknown kind")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["utils", "pcdet_utils"])
def test_published_build_steps_succeed(folder: str) -> None:
    command = [sys.executable, f"opencood/{folder}/setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "nothing" in done.stdout


@pytest.mark.parametrize("tool", ["list_methods", "doctor", "check_hypes"])
def test_tools_can_be_run_without_python_in_front(tool: str) -> None:
    path = ROOT / "opencood" / "tools" / f"{tool}.py"
    assert path.read_text().startswith("#!/usr/bin/env python\n")
    assert os.access(path, os.X_OK)
