"""Kept tables and the page that gathers them."""

import shutil
from pathlib import Path

import pytest

from opencood.errors import DataError
from opencood.experiments.published import keep_files, keep_table, results_page, write_page
from opencood.tools import gather_results

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "benchmarks" / "results" / "claims"


def test_a_page_names_command_date_machine_seeds_and_time_of_every_table(tmp_path):
    keep_table(tmp_path / "b", "Second", "python two.py", 61, [0], "| row |\n| --- |\n| x |")
    keep_table(tmp_path / "a", "First", "python one.py", 600, [0, 1], "| row |\n| --- |\n| y |\n\n", cpu_seconds=300)
    page = results_page(tmp_path)
    assert page.index("## First") < page.index("python one.py") < page.index("| y |") < page.index("## Second")
    assert "seeds 0, 1; 10 minutes, 5 of CPU time." in page and "torch 2" in page and page.endswith("| x |\n")


def test_pictures_are_shown_from_where_the_page_lies(tmp_path):
    keep_table(tmp_path / "kept" / "a", "First", "python one.py", 60, [0], "| row |")
    (tmp_path / "drop.png").write_bytes(b"picture")
    keep_files([tmp_path / "drop.png"], tmp_path / "kept" / "a")
    page = write_page(tmp_path / "kept", tmp_path / "docs" / "results.md").read_text()
    assert "| row |\n\n![drop](../kept/a/drop.png)" in page
    assert (tmp_path / "docs" / "../kept/a/drop.png").is_file()


@pytest.mark.parametrize("damage", ["empty", "no table", "no title"])
def test_incomplete_tables_are_named(tmp_path, damage):
    if damage != "empty":
        facts = keep_table(tmp_path / "a", "First", "python one.py", 600, [0], "| row |")
    if damage == "no table":
        (tmp_path / "a" / "table.md").unlink()
    if damage == "no title":
        facts.write_text(facts.read_text().replace("title:", "titel:"))
    with pytest.raises(DataError, match="publish|Publish"):
        results_page(tmp_path)


@pytest.mark.skipif(not KEPT.is_dir(), reason="nothing was published yet")
def test_the_shipped_page_is_that_of_the_shipped_tables(tmp_path, monkeypatch):
    shutil.copytree(KEPT, tmp_path / "benchmarks" / "results" / "claims")
    monkeypatch.chdir(tmp_path)
    gather_results.main([])
    assert (tmp_path / "docs" / "results.md").read_text() == (ROOT / "docs" / "results.md").read_text()
