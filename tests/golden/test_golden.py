"""Conformance: ``pytest tests/golden [--golden DIR] [-k family/case]``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import locate
from tests.golden.harness import Case, run_case


def test_case(case_folder: Path, record_property: pytest.RecordProperty) -> None:
    case = Case(case_folder, case_folder.parent.parent, locate.data_folders())
    try:
        run_case(case)
    finally:
        record_property("golden_arrays", len(case.ledger.arrays))
        record_property("golden_ignored", len(case.ledger.ignored))
        record_property("golden_values", len(case.ledger.values))
    if case.ledger.problems:
        pytest.fail(f"{case.id}:\n  " + "\n  ".join(case.ledger.problems), pytrace=False)
