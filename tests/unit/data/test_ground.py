"""Labels of segmentation: where they lie, what they are made of, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opencood.data.build import build_dataset
from opencood.data.frame import EGO
from opencood.errors import ConfigError, DataError
from opencood.experiments.simulate import SimulationOptions, simulate

Make = Callable[..., Any]
RASTERS = ["bev_dynamic.png", "bev_static.png", "bev_lane.png"]


@pytest.fixture
def drawn(pictured: Path) -> Path:
    """A data set whose maps show a vehicle 8 m ahead and 4 m to the right, a road ahead, and a line on its right."""
    for file in pictured.glob("*/*/*.yaml"):
        for name, rows, columns in (
            ("dynamic", slice(104, 108), slice(136, 140)),
            ("static", slice(0, 127), slice(117, 138)),
            ("lane", slice(0, 127), slice(136, 138)),
        ):
            picture = np.zeros((256, 256, 3), np.uint8)
            picture[rows, columns] = 255
            Image.fromarray(picture).save(file.with_name(f"{file.stem}_bev_{name}.png"))
    return pictured


def segmenting(hypes: Make, root: Path, listed: list[str] = RASTERS) -> dict[str, Any]:
    content = hypes(root, "intermediateheter", add_data_extension=listed)
    section = content["postprocess"]
    content["postprocess"] = {k: section[k] for k in ("gt_range", "anchor_args", "order", "max_num")} | {
        "core_method": "CameraBevPostprocessor"
    }
    return content


def test_maps_lie_like_a_detectors(drawn: Path, hypes: Make) -> None:
    dataset = build_dataset(segmenting(hypes, drawn), train=True)
    labels = dataset.collate_batch_train([dataset[0], dataset[1]])[EGO]["label_dict"]
    dynamic, static = labels["dynamic_bev"], labels["static_bev"]
    assert dynamic.shape == static.shape == (2, 64, 64)  # 25.6 m in cells of 0.4 m
    rows, columns = (places.float().mean() for places in dynamic[0].nonzero(as_tuple=True))
    # rows grow with y (to the right), columns with x (ahead)
    assert (rows + 0.5) * 0.4 - 12.8 == pytest.approx(10.5 * 0.39 + 0.2, abs=0.4)
    assert (columns + 0.5) * 0.4 - 12.8 == pytest.approx(21.5 * 0.39, abs=0.4)
    assert static[0, 32, 33:].eq(1).all() and not static[0, :, :31].any() and set(static.unique().tolist()) == {0, 1, 2}


def test_no_boxes_come_out(drawn: Path, hypes: Make) -> None:
    dataset = build_dataset(segmenting(hypes, drawn), train=False)
    batch = dataset.collate_batch_test([dataset[0]])
    boxes, scores, truth = dataset.post_process(batch, {EGO: {}})
    assert boxes is None and scores is None and len(truth) > 0


def test_pictures_that_are_not_there(drawn: Path, hypes: Make) -> None:
    with pytest.raises(ConfigError, match="'bev_lane.png': segmentation needs it listed"):
        build_dataset(segmenting(hypes, drawn, RASTERS[:2]), train=True)[0]
    for file in drawn.rglob("*_bev_lane.png"):
        file.unlink()
    with pytest.raises(DataError, match="bev_lane"):
        build_dataset(segmenting(hypes, drawn), train=True)[0]


def test_simulated_maps_show_what_is_listed(tmp_path: Path, hypes: Make) -> None:
    options = {
        "preset": "mini",
        "scenarios": (1, 0, 0),
        "frames": 1,
        "cameras": True,
        "image_size": (80, 60),
        "seed": 2,
    }
    simulate(SimulationOptions(out=tmp_path / "sim", **options))
    content = segmenting(hypes, tmp_path / "sim" / "train")
    dataset = build_dataset(content, train=False)
    entry = dataset[0][EGO]
    dynamic, static = entry["more_labels"]["dynamic_bev"], entry["more_labels"]["static_bev"]
    centres = entry["object_bbx_center"][entry["object_bbx_mask"] == 1][:, :2]
    inside = centres[(np.abs(centres) < 12).all(axis=1)]
    ego = np.linalg.norm(inside, axis=1) < 2.5  # other agents list the ego, which does not draw itself
    places = ((inside[~ego] + 12.8) / 0.4).astype(int)
    assert dynamic[places[:, 1], places[:, 0]].all()
    assert (static > 0).any() and (static == 2).any()
