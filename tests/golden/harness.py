"""Run a golden case with its family's runner, compare everything, and say what was not compared.

A case passes only if nothing was left over: every stored output and every expected value compared, every input and
every setting read, parameters checked against ``state_dict.json``, extra files opened.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.golden import compare, objects, schema
from tests.golden.arrays import flatten
from tests.golden.case import Case
from tests.golden.ledger import Ledger
from tests.golden.legacy_random import LegacyRandom

__all__ = ["Case", "LegacyRandom", "Ledger", "MissingRunner", "compare_outputs", "load_runner", "run_case"]

FAMILIES = Path(__file__).parent / "families"
OWN_FILES = {"case.yaml", "case.npz", "state_dict.json", "README.md"}


class MissingRunner(Exception):
    """No runner exists for a family yet."""


def load_runner(family: str) -> ModuleType:
    """Import ``families/<family>.py`` by its path.

    Raises:
        MissingRunner: there is none yet.
    """
    path = FAMILIES / f"{family}.py"
    if not path.exists():
        raise MissingRunner(f"no runner tests/golden/families/{family}.py for family '{family}' yet")
    name = f"tests.golden.families.{family}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def run_case(case: Case, runner: ModuleType | None = None) -> Ledger:
    """Run and compare a case; the ledger lists what was compared and every problem.

    Raises:
        MissingRunner: the family has no runner; anything the product raises comes through as it is.
    """
    runner = runner or load_runner(case.family)
    roles = schema.known_keys(case.family, getattr(runner, "KNOWN_KEYS", None))
    for key in case.meta:
        if key not in roles and not schema.is_note(key):
            case.problem(f"case.yaml: unknown key '{key}'")
    got = runner.run(case)
    own_comparison = getattr(runner, "compare", None)
    if own_comparison is None:
        compare_outputs(case, got)
    else:
        own_comparison(case, got)
    _complain_about_leftovers(case, roles, tuple(getattr(runner, "INFORMATION_INPUTS", ())))
    return case.ledger


def compare_outputs(case: Case, got: Mapping[str, Any]) -> None:
    """Compare every stored output with the produced ones by the general rules."""
    flat = flatten(got or {}, keep=case.wanted)
    objects.align_rows(case, flat)
    for name in case.wanted:
        if case.skipped(name) == "all" or compare.is_information(name, case.family):
            case.ledger.ignored.add(name)
            continue
        try:
            array = compare.produced(name, flat, case.meta.raw())
        except ValueError as error:
            case.compared(name)
            case.problem(str(error))
            continue
        if array is None:
            case.compared(name)
            case.problem(f"{name}: the runner produced nothing under this name")
        else:
            case.compare_array(name, array)


def _complain_about_leftovers(case: Case, roles: Mapping[str, str], information: tuple[str, ...]) -> None:
    ledger = case.ledger
    for name in case.wanted:
        if name not in ledger.arrays | ledger.ignored:
            case.problem(f"out/{name} was not compared")
    for name in case.inputs:
        if name not in case.inputs.read and not any(fnmatchcase(name, pattern) for pattern in information):
            case.problem(f"in/{name} was not read")
    for key in case.meta:
        role = roles.get(key)
        if role == schema.SETTING and key not in case.meta.read:
            case.problem(f"case.yaml: setting '{key}' was not read")
        if role == schema.EXPECTED and key not in ledger.values:
            case.problem(f"case.yaml: expected value '{key}' was not compared")
    if case.state_dict and not ledger.parameters_checked:
        case.problem("state_dict.json was not checked")
    for path in sorted(case.folder.iterdir()):
        if path.name not in OWN_FILES and path.name not in ledger.files:
            case.problem(f"file {path.name} was not read")
