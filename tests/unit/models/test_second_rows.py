"""SECOND with one fusion of one map: what is sent is what counts; maps that windows do not divide.

Apart from the other rows, because sparse convolutions of all agents at once do not give the very bits of each alone.
"""

import pytest
import torch
from model_samples import BASE, RANGE, SHRINK, V2XVIT, cloud
from model_samples import batch as sample_of

from opencood.communication import Channel
from opencood.models.build import build_model

# Voxels whose places are those of the pillars; the map has 4 x 4 cells.
SPARSE = {
    "voxel_size": [0.4, 0.4, 0.1],
    "lidar_range": RANGE,
    "mean_vfe": {"feature_points": 4},
    "base_bev_backbone": {key: value for key, value in BASE.items() if key != "inplanes"} | {"layer_strides": [1, 2]},
    "shrink_header": SHRINK,
    "anchor_number": 2,
}
STTF = {"voxel_size": [0.4, 0.4, 0.1], "downsample_rate": 8}
ENCODER = V2XVIT | {"use_roi_mask": True, "use_RTE": True, "RTE_ratio": 2, "sttf": STTF}
ROWS = {
    "second_fcooper": SPARSE | {"compression": 4},
    "second_v2xvit": SPARSE | {"transformer": {"encoder": ENCODER}},
    "second_baseline": SPARSE | {"fusion_method": "att", "att": {"feat_dim": 24}},
}


def detector(name: str, flavor: str = "coopre") -> torch.nn.Module:
    torch.manual_seed(1)
    args = {"core_method": name, "args": ROWS[name]}
    return build_model({"model": args, "flavor": flavor, "parity": "fixed"}).eval().requires_grad_(False)


def batch(record_len: tuple[int, ...] = (3, 2)) -> dict:
    return sample_of("point_pillar_fcooper", record_len)


@pytest.mark.parametrize("name", ROWS)
def test_what_is_sent_is_what_counts(name: str) -> None:
    model, sample = detector(name), batch()
    plain = model(sample)
    model.channel = Channel()
    assert all(torch.allclose(model(sample)[key], value, atol=1e-5) for key, value in plain.items())
    assert model.channel.meter.bytes_of_frame() > 0
    model.channel = Channel(agents=1)
    alone = model(sample)
    voxels = {**batch((1, 1)), "processed_lidar": cloud([0, 3])}
    voxels["processed_lidar"]["voxel_coords"][:, 0].clamp_(max=1)
    for key, value in model(voxels).items():
        assert torch.allclose(alone[key], value, atol=1e-5)


@pytest.mark.parametrize(("flavor", "outputs"), [("coopre", {"psm", "rm"}), ("heal", {"cls_preds", "reg_preds"})])
def test_outputs_have_the_names_of_the_family(flavor: str, outputs: set[str]) -> None:
    assert set(detector("second_fcooper", flavor)(batch())) == outputs


def test_v2xvit_fills_up_maps_that_its_windows_do_not_divide() -> None:
    """4 x 4 cells under windows of 8: the result has the size of the map, and a full one is as ever."""
    model = detector("second_v2xvit")
    assert model(batch())["psm"].shape[-2:] == (4, 4)
    encoder = model.fusion_net.encoder
    x, absent = torch.randn(1, 2, 8, 8, 24), torch.zeros(1, 2, dtype=torch.bool)
    kinds = torch.zeros(1, 2, dtype=torch.long)
    whole = encoder(x, absent, kinds)
    by_cell = encoder(x, absent[..., None, None].expand(1, 2, 8, 8), kinds)
    assert torch.allclose(whole, by_cell, atol=1e-6)
    assert encoder(x[:, :, :5, :7], absent, kinds).shape == (1, 2, 5, 7, 24)
