"""A made-up golden folder: each kind of mistake gets the verdict it deserves."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.golden.harness import Case, MissingRunner, load_runner, run_case

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Doubler(torch.nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def run(case: Case) -> dict[str, Any]:
    """A family of modules that double their input."""
    module = case.fill(Doubler(case.meta["width"]))
    case.check("names", ["y", "steps"])
    doubled = module(case.tensor("x"))
    return {"y": doubled, "steps": [doubled[0], doubled[1]], "count": 2}


RUNNER = SimpleNamespace(run=run, KNOWN_KEYS={"width": "setting", "names": "expected"})


@pytest.fixture
def make_case(tmp_path: Path):
    def make(meta: dict | None = None, inputs: dict | None = None, outputs: dict | None = None, width: int = 3) -> Case:
        folder = tmp_path / "golden" / "doubling" / "one"
        folder.mkdir(parents=True)
        facts = {"what": "doubles", "tolerance": 1e-5, "width": 3, "names": ["y", "steps"]} | (meta or {})
        (folder / "case.yaml").write_text(yaml.safe_dump(facts))
        (folder / "state_dict.json").write_text(json.dumps({"gain": [width], "int:": []}))
        wanted = {"y": 2 * X, "steps/0": 2 * X[0], "steps/1": 2 * X[1], "count": np.int64(2)} | (outputs or {})
        given = {"x": X} | (inputs or {})
        arrays = {f"in/{k}": v for k, v in given.items()} | {f"out/{k}": v for k, v in wanted.items() if v is not None}
        np.savez(folder / "case.npz", **arrays)
        return Case(folder, tmp_path / "golden")

    return make


def problems(case: Case) -> list[str]:
    return run_case(case, RUNNER).problems


def test_a_right_case_passes_and_counts(make_case) -> None:
    ledger = run_case(make_case(), RUNNER)
    assert ledger.problems == []
    assert ledger.arrays == {"y", "steps/0", "steps/1", "count"}
    assert ledger.values == {"names"}


def test_a_wrong_number_names_element_and_values(make_case) -> None:
    wrong = 2 * X
    wrong[1, 2] += 0.5
    (problem,) = problems(make_case(outputs={"y": wrong}))
    assert "y: 1 of 6 differ" in problem
    assert "[1, 2]" in problem
    assert "want 10.5, got 10" in problem


def test_integers_are_exact_and_shapes_strict(make_case) -> None:
    case = make_case({"tolerance": 5}, outputs={"count": np.int64(3), "steps/1": np.zeros(2, np.float32)})
    assert [text.partition(":")[0] for text in problems(case)] == ["steps/1", "count"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"inputs": {"z": X}}, "in/z was not read"),
        ({"meta": {"colour": "red"}}, "unknown key 'colour'"),
        ({"meta": {"names": ["y"]}}, "names: want ['y'], got ['y', 'steps']"),
        ({"outputs": {"extra": X}}, "extra: the runner produced nothing"),
    ],
)
def test_left_overs(make_case, change: dict, complaint: str) -> None:
    (problem,) = problems(make_case(**change))
    assert complaint in problem


def test_unread_settings_files_and_unchecked_values(make_case) -> None:
    case = make_case()
    (case.folder / "weights.npz").write_bytes(b"")
    outputs = {"y": 2 * X, "steps": [2 * X[0], 2 * X[1]], "count": 2}
    lazy = SimpleNamespace(run=lambda c: outputs if len(c.inputs["x"]) else {}, KNOWN_KEYS=RUNNER.KNOWN_KEYS)
    assert set(run_case(case, lazy).problems) == {
        "case.yaml: setting 'width' was not read",
        "case.yaml: expected value 'names' was not compared",
        "state_dict.json was not checked",
        "file weights.npz was not read",
    }


def test_a_comparison_of_ones_own_may_not_forget_outputs(make_case) -> None:
    forgetful = SimpleNamespace(
        run=run, KNOWN_KEYS=RUNNER.KNOWN_KEYS, compare=lambda c, got: c.compare_array("y", got["y"])
    )
    assert run_case(make_case(), forgetful).problems == [
        f"out/{n} was not compared" for n in ("steps/0", "steps/1", "count")
    ]


def test_wrong_parameters_stop_the_case(make_case) -> None:
    with pytest.raises(AssertionError, match=r"gain: shape \[3\], expected \[4\]"):
        problems(make_case(width=4))


def test_ignored_elements_and_outputs(make_case) -> None:
    wrong = 2 * X
    wrong[0, 1] = np.nan
    case = make_case({"ignore": {"y": [[0, 1]], "junk": "all"}}, outputs={"y": wrong, "junk": X})
    ledger = run_case(case, RUNNER)
    assert ledger.problems == []
    assert ledger.ignored == {"junk"}


def test_parts_and_statistics_of_full_arrays(make_case) -> None:
    slices = {"y": {"full_shape": [2, 3], "stored": "[:, ::2]"}}
    statistics = np.array([5.0, np.std(2 * X), 30.0], dtype=np.float64)
    case = make_case(
        {"slices": slices}, outputs={"y": 2 * X[:, ::2], "y__stats": statistics, "y@sum": 2 * X.sum(axis=1)}
    )
    assert problems(case) == []


def test_named_and_relative_tolerances(make_case) -> None:
    tolerance = {"atol": 1e-6, "y_atol": 1.0, "grad_norm_rtol": 0.5}
    outputs = {"y": 2 * X + 0.9, "steps/0": 2 * X[0] + 0.9}
    (problem,) = problems(make_case({"tolerance": tolerance}, outputs=outputs))
    assert problem.startswith("steps/0")


def test_a_family_without_a_runner_says_so() -> None:
    with pytest.raises(MissingRunner, match=r"families/no_such_family\.py"):
        load_runner("no_such_family")


def test_paths_are_found_in_the_case_folder_then_in_the_data_folders(make_case, tmp_path: Path) -> None:
    (tmp_path / "data" / "tiny" / "train").mkdir(parents=True)
    case = make_case({"hypes": {"root_dir": "tiny/train", "heter": {"assignment_path": "a.json"}, "test_dir": "gone"}})
    (case.folder / "a.json").write_text("{}")
    hypes = case.hypes()
    assert hypes["root_dir"] == str(tmp_path / "data" / "tiny" / "train")
    assert hypes["heter"]["assignment_path"] == str(case.folder / "a.json")
    assert hypes["test_dir"] == "gone"
    assert case.shared == tmp_path
