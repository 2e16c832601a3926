"""The whole chain as pytest sees it: ids, strict expected failures, another folder, the summary line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.golden import locate


def run_pytest(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "tests/golden", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=locate.ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )


def test_another_folder_makes_its_own_tests(tmp_path: Path) -> None:
    folder = tmp_path / "unheard_of" / "case_a"
    folder.mkdir(parents=True)
    (folder / "case.yaml").write_text("tolerance: 0\n")
    np.savez(folder / "case.npz", **{"out/y": np.zeros(1)})
    (tmp_path / "unheard_of" / "not_a_case").mkdir()
    result = run_pytest("--golden", str(tmp_path), "-rf")
    assert result.returncode == 1
    assert "test_case[unheard_of/case_a]" in result.stdout
    assert "no runner tests/golden/families/unheard_of.py" in result.stdout
    assert "golden cases: 0 passed, 0 expected failures, 1 failed" in result.stdout


def test_a_folder_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    result = run_pytest("--golden", str(tmp_path / "gone"))
    assert result.returncode != 0
    assert "no folder" in result.stdout + result.stderr
