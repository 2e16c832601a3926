"""V2X-Real: four modes, three classes, raw clouds. The numbers of the published loader are golden cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opencood.data.build import build_dataset
from opencood.errors import ConfigError, DataError
from tests.unit.data.conftest import RANGE, cloud, metadata_of, pcd_bytes

Hypes = Callable[..., Any]
POSES = {
    "1": [100.0, 50.0, 1.9, 0.0, 30.0, 0.0],
    "2": [104.0, 52.0, 1.9, 0.0, 75.0, 0.0],
    "-1": [96.0, 51.0, 4.0, 0.0, 10.0, 0.0],
    "-2": [99.0, 45.0, 4.0, 0.0, -90.0, 0.0],
}
DAY, OTHER_DAY = "2023-03-17-16-11-12_1_0", "2023-04-07-15-05-15_4_0"
TYPES = {3: "Car", 4: "MotorcyleRider", 5: "Bus", 6: "Bicycle"}
OBJECTS = {name: (96.0 + 2 * name, 55.0 - name, 0.8, 20.0) for name in TYPES}


def anchors_of(name: str, size: Sequence[float]) -> dict[str, Any]:
    return {
        "class_name": name, "anchor_sizes": [list(size)], "anchor_rotations": [0, 1.57], "align_center": True,
        "anchor_bottom_heights": [-1.0], "feature_map_stride": 4, "matched_threshold": 0.6, "unmatched_threshold": 0.45,
    }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two scenarios of four agents that list one object of every class and one of none."""
    folder = tmp_path / "data"
    for scenario in (DAY, OTHER_DAY):
        for agent, pose in POSES.items():
            place = folder / scenario / agent
            place.mkdir(parents=True)
            content = metadata_of(agent, pose, OBJECTS)
            for name, kind in TYPES.items():
                content["vehicles"][name]["obj_type"] = kind
            points = cloud(200, seed=abs(int(agent)))
            points[3, 0] = np.nan
            for stamp in ("000000", "000001"):
                (place / f"{stamp}.yaml").write_text(yaml.safe_dump(content))
                points.tofile(place / f"{stamp}.bin")
    return folder


@pytest.fixture
def v2xreal(root: Path, hypes: Hypes) -> Hypes:
    """``v2xreal(method, ...)`` -> a configuration of three classes."""

    def make(method: str = "intermediate", **changes: Any) -> Any:
        content = hypes(root, method, **changes)
        content["fusion"]["dataset"] = "v2xreal"
        sizes = {"vehicle": (3.9, 1.6, 1.56), "pedestrian": (0.8, 0.6, 1.73), "truck": (8, 3, 3)}
        content["postprocess"]["anchor_args"]["anchor_generator_config"] = [
            anchors_of(name, size) for name, size in sizes.items()
        ]
        return content

    return make


@pytest.mark.parametrize(
    ("mode", "order", "frames"),
    [
        ("vc", ["1", "2", "-1", "-2"], 2),
        ("ic", ["-1", "-2", "1", "2"], 2),
        ("v2v", ["1", "2"], 4),
        ("i2i", ["-1", "-2"], 2),
    ],
)
def test_the_mode_chooses_the_agents_of_testing(v2xreal: Hypes, mode: str, order: list[str], frames: int) -> None:
    dataset = build_dataset(v2xreal(dataset_mode=mode), train=False)
    assert [agent.id for agent in dataset.frame(0).agents] == order
    assert len(dataset) == frames, "one day is evaluated among vehicles only"


def test_in_training_any_agent_may_be_ego(v2xreal: Hypes) -> None:
    dataset = build_dataset(v2xreal(dataset_mode="v2v"), train=True)
    egos = set()
    for epoch in range(40):
        dataset.reinitialize(epoch)
        egos.add(dataset.frame(0).ego.id)
    assert egos == set(POSES) and len(dataset) == 4


def test_scenarios_without_an_agent_of_the_mode_are_left_out(root: Path, v2xreal: Hypes) -> None:
    for agent in ("-1", "-2"):
        (root / DAY / agent).rename(root.parent / f"gone{agent}")
    with pytest.raises(DataError, match="no scenario of .* has an agent of dataset_mode 'i2i'"):
        build_dataset(v2xreal(dataset_mode="i2i"), train=False)
    vehicles = build_dataset(v2xreal(dataset_mode="ic"), train=False).frame(0)
    assert vehicles.ego.id == "1", "the other kind leads where there is none"


def test_objects_have_classes_and_those_of_none_are_dropped(v2xreal: Hypes) -> None:
    dataset = build_dataset(v2xreal(), train=False)
    objects = dataset.frame(0).ego.objects
    assert objects.classes is not None
    assert dict(zip(objects.ids.tolist(), objects.classes.tolist(), strict=True)) == {3: 1, 4: 2, 5: 3}
    batch = dataset.collate_batch_test([dataset[0]])["ego"]
    assert batch["object_bbx_center"].shape == (1, 20, 8)
    rows = batch["object_bbx_center"][0, :3, 7].tolist()
    assert dict(zip(batch["object_ids"], rows, strict=True)) == {3: 1, 4: 2, 5: 3}
    assert set(batch["label_dict"]["pos_equal_one"].unique().tolist()) >= {0, 1, 2, 3}
    corners, classes = dataset.post_process({"ego": batch}, {})[2]
    assert corners.shape == (3, 8, 3) and sorted(classes.tolist()) == [1, 2, 3]


@pytest.mark.parametrize("method", ["early", "late", "intermediateheterv2xreal", "lateheter"])
def test_every_kind_of_sample_carries_classes(v2xreal: Hypes, method: str) -> None:
    for train in (True, False):
        dataset = build_dataset(v2xreal(method), train=train)
        collate = dataset.collate_batch_train if train else dataset.collate_batch_test
        assert collate([dataset[0]])["ego"]["object_bbx_center"].shape == (1, 20, 8)


def test_single_class_heads_see_boxes_without_a_class(root: Path, hypes: Hypes) -> None:
    content = hypes(root)
    content["fusion"]["dataset"] = "v2xreal"
    assert build_dataset(content, train=False)[0]["ego"]["object_bbx_center"].shape == (20, 7)


def test_a_box_with_two_corners_in_range_is_a_label(v2xreal: Hypes) -> None:
    """The ego is at (100, 50) and looks along 30 degrees; an object straddles the front border of its range."""
    content = v2xreal()
    reached = RANGE[3]
    turn = np.radians(30)
    centre = np.array([100, 50]) + reached * np.array([np.cos(turn), np.sin(turn)])
    for agent in POSES:
        file = Path(content["validate_dir"]) / DAY / agent / "000000.yaml"
        document = yaml.safe_load(file.read_text())
        document["vehicles"][9] = document["vehicles"][3] | {"location": [*centre.tolist(), 0.0], "angle": [0, 30, 0]}
        file.write_text(yaml.safe_dump(document))
    assert 9 in build_dataset(content, train=False)[0]["ego"]["object_ids"]


def test_clouds(root: Path, v2xreal: Hypes) -> None:
    source = build_dataset(v2xreal(), train=False).frame(0).ego.lidar
    found = source.read()
    assert found.shape == (199, 4) and found[:, 3].any()
    plain = build_dataset(v2xreal(flavor="coopre"), train=False).frame(0).ego.lidar.read()
    assert not plain[:, 3].any(), "CooPre overwrites the intensity"
    source.path.unlink()
    with pytest.raises(DataError, match=r"000000\.bin: cannot be read"):
        source.read()
    source.path.with_suffix(".pcd").write_bytes(pcd_bytes(cloud(50)))
    assert len(source.read()) == 50


def test_unknown_modes_and_missing_types_are_named(root: Path, v2xreal: Hypes) -> None:
    with pytest.raises(ConfigError, match="dataset_mode: 'v2x' is none of vc, ic, v2v, i2i.* Did you mean 'v2v'"):
        build_dataset(v2xreal(dataset_mode="v2x"), train=False)
    file = root / DAY / "1" / "000000.yaml"
    file.write_text(file.read_text().replace("obj_type", "object_type"))
    with pytest.raises(DataError, match="missing key 'obj_type'"):
        build_dataset(v2xreal(), train=False)


@pytest.mark.parametrize(("parity", "order"), [("fixed", ["1", "2"]), ("published", ["-1", "-2", "1", "2"])])
def test_the_mode_and_the_modality_of_the_ego(v2xreal: Hypes, parity: str, order: list[str]) -> None:
    """Published: where no vehicle may be ego, the roadside unit that may leads, and everybody comes back."""
    content = v2xreal("intermediateheterv2xreal", dataset_mode="v2v", parity=parity)
    content["heter"] |= {"ego_modality": "m3", "mapping_dict": {"m1": "m1", "m3": "m3"}}
    content["heter"]["modality_setting"]["m3"] = content["heter"]["modality_setting"]["m1"]
    roles = {"1": "m1", "2": "m1", "-1": "m3", "-2": "m1"}
    content["modality_assignment"] = {DAY: roles, OTHER_DAY: roles}
    assert [agent.id for agent in build_dataset(content, train=False).frame(0).agents] == order
