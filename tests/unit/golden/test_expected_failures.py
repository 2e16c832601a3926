"""The list of expected failures is consistent, and shrinks."""

from pathlib import Path

import pytest

from tests.golden import expected, locate
from tests.golden.shrink import Outcomes, shrunk


@pytest.mark.skipif(not locate.DEFAULT_GOLDEN.is_dir(), reason="no golden folder")
def test_every_listed_case_exists_and_has_a_reason() -> None:
    existing = {f"{folder.parent.name}/{folder.name}" for folder in locate.case_folders(locate.DEFAULT_GOLDEN)}
    listed = expected.read()
    assert set(listed) <= existing, sorted(set(listed) - existing)
    assert all(listed.values()), [name for name, reason in listed.items() if not reason]


def test_the_file_is_sorted_and_survives_rewriting(tmp_path: Path) -> None:
    expected.write(expected.read(), tmp_path / "list.txt")
    assert (tmp_path / "list.txt").read_text() == expected.LIST.read_text()


def test_shrinking_removes_what_passes_and_adds_only_on_demand() -> None:
    outcomes = Outcomes()
    outcomes.passed = {"a/1"}
    outcomes.failed = {"a/2": "still missing", "b/1": "broke"}
    listed = {"a/1": "x", "a/2": "y", "c/1": "not run"}
    assert shrunk(listed, outcomes, add=False) == {"a/2": "y", "c/1": "not run"}
    assert shrunk(listed, outcomes, add=True) == {"a/2": "y", "c/1": "not run", "b/1": "broke"}
