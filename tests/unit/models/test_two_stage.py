"""The second stages of FPV-RCNN and its voxel variant: what they pool, what travels, and that they learn."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opencood.communication import Channel
from opencood.config.loader import load_mapping
from opencood.data.build import build_dataset
from opencood.data.frame import EGO
from opencood.errors import ConfigError, DataError
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.losses.build import build_loss
from opencood.models.build import build_model
from opencood.models.sparse.near_voxels import VoxelLevel, merged, near_voxels
from opencood.models.sparse.volume import SparseTensor

RANGE = [-12.8, -12.8, -3, 12.8, 12.8, 1]
VOXEL = [0.2, 0.2, 0.1]
ABSTRACTION = {"mlps": [[8, 8]], "pool_radius": [1.6], "n_sample": [8]}
POOL = {"mlps": [[8, 8]], "query_ranges": [[2, 2, 2]], "pool_radius": [1.6], "nsample": [8]}
POSTPROCESS = {
    "core_method": "FpvrcnnPostprocessor", "gt_range": RANGE, "order": "hwl", "max_num": 40, "nms_thresh": 0.15,
    "anchor_args": {"cav_lidar_range": RANGE, "l": 4.5, "w": 2, "h": 1.56, "r": [0, 90], "feature_stride": 8, "num": 2},
    "target_args": {"pos_threshold": 0.5, "neg_threshold": 0.3, "score_threshold": 0.2},
    "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]}, "max_box_extent": 12.0,
}  # fmt: skip
ARGS: dict[str, Any] = {
    "activate_stage2": True, "lidar_range": RANGE, "voxel_size": VOXEL, "anchor_num": 2,
    "mean_vfe": {"num_point_features": 4}, "spconv": {"num_features_in": 4, "num_features_out": 64},
    "map2bev": {"feature_num": 128}, "ssfa": {"feature_num": 128},
    "head": {"num_input": 128, "num_pred": 14, "num_cls": 2, "num_iou": 2, "use_dir": True, "num_dir": 4},
}  # fmt: skip
KEYPOINTS: dict[str, Any] = {
    "vsa": {
        "enlarge_selection_boxes": True, "num_keypoints": 4096, "num_out_features": 16,
        "features_source": ["bev", "x_conv1", "x_conv3", "raw_points"],
        "sa_layer": dict.fromkeys(("raw_points", "x_conv1", "x_conv3"), ABSTRACTION),
    },
    "roi_head": {"n_fc_neurons": 32, "dp_ratio": 0.0, "roi_grid_pool": ABSTRACTION | {"grid_size": 3}},
}  # fmt: skip
VOXELS: dict[str, Any] = {
    "roi_head": {
        "n_fc_neurons": 32, "dp_ratio": 0.0,
        "pool_cfg": {
            "grid_size": 3, "feature_source": ["x_conv2", "x_conv4"],
            "pool_layers": dict.fromkeys(("x_conv2", "x_conv4"), POOL),
        },
    }
}  # fmt: skip
STAGE1 = {
    "pos_cls_weight": 2.0, "encode_rad_error_by_sin": True,
    "cls": {"type": "SigmoidFocalLoss", "alpha": 0.25, "gamma": 2.0, "weight": 2.0},
    "reg": {"type": "WeightedSmoothL1Loss", "sigma": 3.0, "codewise": True, "weight": 2.0},
    "dir": {"weight": 0.2}, "iou": {"sigma": 3.0, "weight": 1.0},
}  # fmt: skip
STAGE2 = {
    "cls": {"weight": 1.0},
    "iou": {"sigma": 3.0, "weight": 1.0},
    "reg": {"sigma": 3.0, "weight": 1.0, "code_weights": [20.0]},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_stage")
    simulate(SimulationOptions(out=folder, preset="mini", scenarios=(1, 0, 0), frames=2, seed=4))
    return folder / "train"


def configured(name: str, root: Path | str = "", **args: Any) -> Any:
    own = copy.deepcopy(KEYPOINTS if name == "fpvrcnn" else VOXELS)
    voxels = {"voxel_size": VOXEL, "max_points_per_voxel": 5, "max_voxel_train": 20000, "max_voxel_test": 20000}
    return load_mapping({
        "yaml_parser": "load_voxel_params", "train_params": {"max_cav": 3}, "flavor": "coalign", "comm_range": 70,
        "root_dir": str(root), "validate_dir": str(root),
        "fusion": {"core_method": "intermediate2stage", "dataset": "opv2v", "args": {"proj_first": False}},
        "preprocess": {"core_method": "SpVoxelPreprocessor", "args": voxels, "cav_lidar_range": RANGE},
        "postprocess": copy.deepcopy(POSTPROCESS),
        "model": {"core_method": name, "args": copy.deepcopy(ARGS) | own | args},
        "loss": {"core_method": "fpvrcnn_loss", "args": {"stage1": STAGE1, "stage2": STAGE2}},
    })  # fmt: skip


def finding(name: str, root: Path, seed: int = 0) -> tuple[Any, Any, Any]:
    """Configuration, an untrained detector that is sure of a few boxes, and a data set."""
    hypes = configured(name, root)
    return hypes, sure_of_something(hypes, seed), build_dataset(hypes, train=False)


def sure_of_something(hypes: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = build_model(hypes)
    with torch.no_grad():
        model.head.conv_cls.bias.fill_(0.5)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fpvrcnn", "fvoxelrcnn"])
def test_both_stages_learn_on_simulated_data(root: Path, name: str) -> None:
    hypes = configured(name, root)
    model, loss, dataset = sure_of_something(hypes).train(), build_loss(hypes), build_dataset(hypes, train=True)
    batch = dataset.collate_batch_train([dataset[0]])[EGO]
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    totals, second, taught = [], [], set()
    for _ in range(10):
        outputs = model(batch)
        total, terms = loss(outputs, batch["label_dict"])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
        taught |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        if "rcnn_loss" in terms:
            second.append(float(terms["rcnn_loss"]))
    assert totals[-1] < 0.6 * totals[0] and len(second) >= 4 and np.isfinite(second).all()
    assert taught == {name for name, _ in model.named_parameters()}
    model.eval()
    dataset = build_dataset(hypes, train=False)
    test = dataset.collate_batch_test([dataset[0]])
    with torch.no_grad():
        outputs = model(test[EGO])
    assert {"rcnn_cls", "rcnn_iou", "rcnn_reg"} == set(outputs["stage2_out"])
    assert len(outputs["boxes_fused"]) == len(outputs["scores_fused"]) == sum(outputs["boxes_per_scene"])
    boxes, scores, _ = dataset.post_process(test, {EGO: outputs})
    assert boxes is None or boxes.shape == (len(scores), 8, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fpvrcnn", "fvoxelrcnn"])
@torch.no_grad()
def test_messages_say_all_that_is_read(root: Path, name: str) -> None:
    _, model, dataset = finding(name, root)
    model.eval()
    batch = dataset.collate_batch_test([dataset[0]])[EGO]
    direct = model(batch)
    assert "stage2_out" in direct
    model.channel = Channel()
    model.channel.meter.start_frame()
    sent = model(batch)
    assert torch.allclose(sent["stage2_out"]["rcnn_cls"], direct["stage2_out"]["rcnn_cls"], atol=1e-5)
    assert model.channel.meter.bytes_of_frame() > 0
    model.channel = Channel(agents=1)
    alone = model(batch)
    other = {**batch, "origin_lidar_for_vsa": batch["origin_lidar_for_vsa"].clone()}
    others = other["origin_lidar_for_vsa"][:, 0] > 0
    other["origin_lidar_for_vsa"][others, 1:4] += 0.3
    again = model(other)
    if "stage2_out" in alone:
        assert torch.equal(again["stage2_out"]["rcnn_cls"], alone["stage2_out"]["rcnn_cls"])


def test_without_boxes_there_is_no_second_stage(root: Path) -> None:
    _, model, dataset = finding("fpvrcnn", root)
    with torch.no_grad():
        model.head.conv_cls.bias.fill_(-9.0)
        model.second.postprocessor.section["target_args"]["score_threshold"] = 0.6
        batch = dataset.collate_batch_test([dataset[0]])[EGO]
        assert set(model.eval()(batch)) == {"stage1_out"}
    del batch["origin_lidar_for_vsa"]
    with pytest.raises(DataError, match="intermediate2stage"):
        model(batch)


def test_published_files_run_their_first_stage_with_the_same_names() -> None:
    for name in ("fpvrcnn", "fvoxelrcnn"):
        first, both = (build_model(configured(name, activate_stage2=active)) for active in (False, True))
        assert list(first.state_dict()) == list(both.state_dict())


def test_what_is_wrong_is_said() -> None:
    hypes = configured("fpvrcnn")
    hypes["postprocess"]["order"] = "lwh"
    with pytest.raises(ConfigError, match="codes boxes as hwl, not 'lwh'"):
        build_model(hypes)
    hypes = configured("fpvrcnn")
    hypes["model"]["args"]["roi_head"]["roi_grid_pool"]["n_sample"] = [8, 8]
    with pytest.raises(ConfigError, match="as many mlps as radii and samples"):
        build_model(hypes)


def test_near_voxels_one_by_one() -> None:
    random = np.random.default_rng(0)
    shape = (4, 6, 8)
    cells = np.stack(np.unravel_index(np.sort(random.choice(4 * 6 * 8, 40, replace=False)), shape), axis=1)
    coords = torch.from_numpy(np.concatenate([np.zeros((40, 1), int), cells], axis=1))
    volume = SparseTensor.of(torch.randn(40, 3), coords, shape, 1)
    level = VoxelLevel.of(volume, 0, [0.5, 0.25, 0.5], [-2, -1, -1, 2, 1, 1], 1)
    queries = torch.from_numpy(random.uniform((-2.2, -1.2, -1.2), (2.2, 1.2, 1.2), (30, 3)).astype(np.float32))
    found = near_voxels(queries, level, [1, 2, 1], 0.6, 4)
    centres = level.centres()
    for query, row in zip(queries, found.tolist(), strict=True):
        here = level.cells_at(query[None])[0]
        beside = ((level.cells - here).abs() <= torch.tensor([1, 2, 1])).all(dim=1)
        near = (beside & ((centres - query).norm(dim=1) < 0.6)).nonzero()[:4, 0].tolist()
        assert row == (near + [near[0]] * (4 - len(near)) if near else [-1] * 4)


def test_voxels_of_several_agents_become_one_grid() -> None:
    level = VoxelLevel(
        torch.tensor([[1.0], [5.0]]), torch.tensor([[0, 0, 0], [0, 1, 1]]), (1, 3, 3), (0, 0, 0), (1, 1, 1)
    )
    step = torch.eye(4)
    step[0, 3] = 1.0
    moved = level.moved(step)
    assert moved.cells.tolist() == [[0, 0, 1], [0, 1, 2]]
    assert level.moved(step @ step @ step).cells.tolist() == []
    other = VoxelLevel(
        torch.tensor([[7.0], [-2.0]]), torch.tensor([[0, 1, 1], [0, 2, 2]]), (1, 3, 3), (0, 0, 0), (1, 1, 1)
    )
    joined = merged([level, other])
    assert joined.cells.tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 2]] and joined.features[:, 0].tolist() == [1, 7, -2]
