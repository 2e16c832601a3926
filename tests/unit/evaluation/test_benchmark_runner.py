"""The benchmark runner: a table and a JSON file from what the modules return."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    spec = importlib.util.spec_from_file_location("benchmark_runner", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_become_a_table_and_a_file(runner, tmp_path):
    from _timing import median_seconds, versus

    assert median_seconds(lambda: None, runs=3) >= 0
    rows = [
        {"benchmark": "nms", **versus("1000 boxes", 0.002, 0.2)},
        {"benchmark": "data", "name": "sweeps", "value": 21.5, "unit": "1/s", "baseline": None, "ratio": None},
    ]
    text = runner.table(rows)
    assert "100.0x" in text.splitlines()[1]
    stored = json.loads(runner.save(rows, tmp_path / "results").read_text())
    assert stored["results"][0]["value"] == pytest.approx(2.0)
    assert stored["machine"]["cores"] >= 1
    assert "date" in stored


def test_an_unknown_name_lists_the_known(runner, capsys):
    with pytest.raises(SystemExit):
        runner.main(["no_such_benchmark"])
    assert "inference" in capsys.readouterr().err
