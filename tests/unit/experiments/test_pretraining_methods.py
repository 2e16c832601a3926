"""The shipped pretraining methods: of two agents' points, those that are the method's target decide its loss."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import Hypes, load_yaml
from opencood.config.tree import with_value
from opencood.data.draws import Draws
from opencood.data.samples.pretraining import pretraining_input, with_owners
from opencood.experiments.shrink import shrink
from opencood.losses.build import build_loss
from opencood.models.build import build_model

METHODS = SHIPPED / "sim" / "coopre"
CELL = 1.6
# One cell for each group of points, from left to right, which is the order in which the mask draws.
GROUPS = ("ego hidden", "ego seen", "other hidden", "other seen")
DRAWS = torch.tensor([0.9, 0.1, 0.8, 0.2])
EVERYTHING, NOTHING = set(GROUPS), set()
HIDDEN = {"ego hidden", "other hidden"}
ASIDE, UP = (0.2, 0.1, 0.0), (0.0, 0.0, 1.0)
CASES = [
    ("coopre", ASIDE, HIDDEN),
    ("each_agent", ASIDE, HIDDEN),
    ("random_masking", ASIDE, HIDDEN),
    ("bev_mae", ASIDE, {"ego hidden"}),
    ("ego_only", ASIDE, {"ego hidden"}),
    ("reconstruct_ego", ASIDE, {"ego hidden"}),
    ("core", UP, EVERYTHING),
    ("core", ASIDE, NOTHING),
    ("star", UP, EVERYTHING),
    ("star", ASIDE, NOTHING),
    ("bev_contrast", ASIDE, NOTHING),
    ("bev_contrast", UP, NOTHING),
]


@cache
def method(name: str) -> Hypes:
    """A shipped method on a small map that hides half."""
    hypes = shrink(load_yaml(METHODS / f"{name}.yaml"))
    return hypes.replaced(with_value(hypes, "pretrain.mask.ratio", 0.5))


def clouds(moved: str = "", by: tuple[float, ...] = ASIDE) -> list[np.ndarray]:
    """(N, 4) of the ego and of another agent, one group moved within its cell."""
    points = {}
    for column, group in enumerate(GROUPS):
        corner = np.array([column * CELL, 0.0, -1.5, 0.5], np.float32)
        inside = np.array([[0.2, 0.2, 0.0, 0.0], [0.3, 0.5, 0.3, 0.0], [0.5, 0.3, 0.1, 0.0]], np.float32)
        points[group] = corner + inside
    if moved:
        points[moved] += np.array([*by, 0.0], np.float32)
    return [
        np.concatenate([points[group] for group in GROUPS if group.startswith(owner)]) for owner in ("ego", "other")
    ]


def batch_of(hypes: Hypes, agents: list[np.ndarray]) -> dict[str, Any]:
    encoder = pretraining_input("processed_lidar", SimpleNamespace(hypes=hypes, train=True))
    cloud = np.concatenate(with_owners(agents) if encoder.wants_owners else agents)
    return {"processed_lidar": encoder.collate([encoder.encode(None, cloud, Draws.keyed(0, "view"))])}


@cache
def told(name: str) -> torch.nn.Module:
    """The model of a method whose mask is told."""
    torch.manual_seed(0)
    model = build_model(method(name)).eval()
    model.masking.draw = lambda count: DRAWS[:count]
    return model


def loss_of(name: str, agents: list[np.ndarray]) -> float:
    """The loss of a prediction that is the same whatever the encoder sees."""
    hypes, model = method(name), told(name)
    with torch.no_grad():
        outputs = model(batch_of(hypes, agents))
        outputs |= {key: torch.full_like(value, 0.3) for key, value in outputs.items() if key in PREDICTED}
        return float(build_loss(hypes)(outputs, {})[0])


PREDICTED = ("pred_coor", "pred_num", "pred_occupancy", "pred_map", "embedding")


@pytest.mark.parametrize(("name", "move", "decisive"), CASES)
def test_only_its_own_target_decides_the_loss(name: str, move: tuple[float, ...], decisive: set[str]) -> None:
    still = loss_of(name, clouds())
    assert {group for group in GROUPS if loss_of(name, clouds(group, move)) != still} == decisive


@pytest.mark.parametrize("name", ["coopre", "each_agent", "random_masking", "bev_mae", "core", "star"])
def test_an_encoder_does_not_see_what_is_hidden(name: str) -> None:
    def predicted(moved: str) -> torch.Tensor:
        with torch.no_grad():
            outputs = told(name)(batch_of(method(name), clouds(moved)))
        return next(outputs[key] for key in PREDICTED if key in outputs)

    still = predicted("")
    for group in HIDDEN:
        assert torch.equal(predicted(group), still)
    assert not torch.equal(predicted("ego seen"), still)


def test_a_number_of_points_is_learned_where_it_has_a_weight() -> None:
    """BEV-MAE's second target; CooPre's loss does not know how many points a cell has beyond where they are."""
    hypes = method("bev_mae")
    with torch.no_grad():
        outputs = told("bev_mae")(batch_of(hypes, clouds()))
    more = {**outputs, "pred_num": outputs["pred_num"] + outputs["gt_mask"][:, None]}
    for name, differs in (("bev_mae", True), ("coopre", False)):
        loss = build_loss(method(name))
        assert (float(loss(more, {})[0]) != float(loss(outputs, {})[0])) == differs


def test_a_contrast_is_decided_by_cells_of_one_place() -> None:
    hypes = method("bev_contrast")
    outputs = told("bev_contrast")(batch_of(hypes, clouds()))
    loss = build_loss(hypes)
    maps, cells = outputs["embedding"].detach(), outputs["contrast_cells"]
    assert len(cells) == 2  # the ego's
    used = torch.zeros(len(maps), *maps.shape[2:], dtype=torch.bool)
    for rows in (cells, outputs["contrast_partners"]):
        used[tuple(rows.unbind(1))] = True

    def with_noise(where: torch.Tensor) -> float:
        noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)) * where[:, None]
        return float(loss({**outputs, "embedding": maps + noise}, {})[0])

    assert with_noise(~used) == with_noise(torch.zeros_like(used)) != with_noise(used)
    alike = maps.clone()
    alike[tuple(outputs["contrast_partners"].unbind(1))[0], :, *outputs["contrast_partners"].unbind(1)[1:]] = maps[
        cells[:, 0], :, cells[:, 1], cells[:, 2]
    ]
    assert float(loss({**outputs, "embedding": alike}, {})[0]) < float(loss(outputs, {})[0])


def test_a_contrast_may_hide_something_too() -> None:
    hypes = method("bev_contrast")
    masked = hypes.replaced(with_value(hypes, "pretrain.mask", {"unit": "bev_cell", "of": "ego", "ratio": 0.5}))
    outputs = build_model(masked)(batch_of(masked, clouds()))
    assert outputs["embedding"].shape[0] == 2 and len(outputs["contrast_cells"]) == 2


def test_views_show_the_same_place_at_partner_cells() -> None:
    hypes = method("bev_contrast")
    batch = batch_of(hypes, clouds())["processed_lidar"]
    outputs = told("bev_contrast")({"processed_lidar": batch})
    first, second = batch["voxel_features"], batch["view_voxel_features"]
    points = first[first[..., :3].abs().sum(2) > 0][:, :3]
    moved = points @ batch["view_transform"][0, :3, :3].T + batch["view_transform"][0, :3, 3]
    there = second[second[..., :3].abs().sum(2) > 0][:, :3]
    assert torch.cdist(moved, there).amin(dim=1).max() < 1e-3
    assert (outputs["contrast_cells"][:, 0] == 0).all() and (outputs["contrast_partners"][:, 0] == 1).all()
