"""Entries of a batch: ids in any order, box rows brought into the stored order, dtypes and shapes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import yaml

from tests.golden.harness import Case, LegacyRandom, run_case

BOXES = np.arange(2 * 4 * 7, dtype=np.float64).reshape(2, 4, 7)
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=np.float64)
ROLES = {"expect_values": "expected", "expect_keys": "expected"}


def make_case(tmp_path: Path) -> Case:
    folder = tmp_path / "golden" / "batches" / "two"
    folder.mkdir(parents=True)
    facts = {
        "tolerance": {"atol": 1e-9},
        "expect_values": {"ego/object_ids": [7, 5, 9], "ego/names": ["m1"]},
        "expect_keys": {"ego/object_bbx_center": "float64 [2, 4, 7]"},
    }
    (folder / "case.yaml").write_text(yaml.safe_dump(facts))
    np.savez(
        folder / "case.npz", **{"out/ego/object_bbx_center": BOXES * MASK[..., None], "out/ego/object_bbx_mask": MASK}
    )
    return Case(folder, tmp_path / "golden")


def verdict(case: Case, boxes: np.ndarray, ids: list[int]) -> list[str]:
    def run(case: Case) -> dict:
        case.check_values({"ego/object_ids": ids, "ego/names": ("m1",), "ego/unlisted": 3})
        case.check_keys({"ego/object_bbx_center": boxes})
        return {"ego": {"object_bbx_center": boxes, "object_bbx_mask": MASK}}

    return run_case(case, SimpleNamespace(run=run, KNOWN_KEYS=ROLES)).problems


def test_objects_in_another_order_agree(tmp_path: Path) -> None:
    boxes = BOXES * MASK[..., None]
    shuffled = np.stack([boxes[0, [2, 0, 1, 3]], boxes[1, [1, 0, 2, 3]]])
    assert verdict(make_case(tmp_path), shuffled, [9, 7, 5]) == []


def test_rows_must_follow_the_ids(tmp_path: Path) -> None:
    (problem,) = verdict(make_case(tmp_path), BOXES * MASK[..., None], [9, 7, 5])
    assert problem.startswith("ego/object_bbx_center")


def test_wrong_ids_dtypes_and_missing_entries(tmp_path: Path) -> None:
    boxes = (BOXES * MASK[..., None]).astype(np.float32)
    complaints = verdict(make_case(tmp_path), boxes, [7, 5, 8])
    assert complaints[0].startswith("expect_values/ego/object_ids: want [7, 5, 9]")
    assert complaints[1] == "expect_keys/ego/object_bbx_center: want 'float64 [2, 4, 7]', got 'float32 [2, 4, 7]'"


def test_legacy_streams_equal_the_global_ones() -> None:
    draws = LegacyRandom()
    draws.seed(11)
    np.random.seed(11)
    np.testing.assert_array_equal(draws.numpy.permutation(50), np.random.permutation(50))
    draws.seed(None)
    assert draws.numpy.rand() == np.random.rand()
