"""What is particular to the older relatives: their attentions against plain loops, their links, their switches."""

import math
from dataclasses import replace

import pytest
import torch
from model_samples import MODELS, batch, hypes

from opencood.communication import Channel
from opencood.errors import ConfigError, DataError
from opencood.models.assemblies_hmvit import types_of
from opencood.models.build import build_model
from opencood.models.domains import forward_domains
from opencood.models.fusion.mash import MashFusion, correspondences
from opencood.models.fusion.robust_poses import (
    consistent_poses,
    planar_inverse,
    planar_matrix,
    planar_pose,
    relative,
)
from opencood.models.fusion.v2vam import CrissCross
from opencood.models.links.autoencoder import AutoEncoder
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY


def model_of(name, flavor="opencood", parity="published", **changes):
    return build_model({**hypes(name, **changes), "flavor": flavor, "parity": parity})


# --- criss-cross attention ----------------------------------------------------------------------


def test_criss_cross_is_one_softmax_over_column_and_row():
    attention = CrissCross(3).eval()
    attention.gamma.data.fill_(0.7)
    query, x = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    q, k, v = attention.query_conv(query), attention.key_conv(x), attention.value_conv(x)
    wanted = x.clone()
    for n in range(2):
        for r in range(4):
            for c in range(5):
                cells = [(i, c) for i in range(4) if i != r] + [(r, j) for j in range(5)]
                logits = torch.stack([q[n, :, r, c] @ k[n, :, i, j] for i, j in cells])
                values = torch.stack([v[n, :, i, j] for i, j in cells])
                wanted[n, :, r, c] += 0.7 * logits.softmax(dim=0) @ values
    assert torch.allclose(attention(query, x), wanted, atol=1e-5)


def test_v2vam_keeps_scenes_apart():
    """The published loop lets the second scene see the first."""
    model, both = model_of("point_pillar_intermediate_V2VAM").eval(), batch("point_pillar_intermediate_V2VAM", (2, 2))
    other = {**both, "processed_lidar": {k: v.clone() for k, v in both["processed_lidar"].items()}}
    other["processed_lidar"]["voxel_features"][both["processed_lidar"]["voxel_coords"][:, 0] < 2] += 1.0
    assert torch.allclose(model(both)["psm"][1], model(other)["psm"][1], atol=1e-6)


# --- poses --------------------------------------------------------------------------------------


def test_a_wrong_pose_is_outvoted():
    true = planar_matrix(torch.tensor([[[0.0, 0, 0], [10, 2, 30], [-5, 3, 90], [4, -8, -120]]]))
    believed = true.clone()
    believed[0, 1] = planar_matrix(torch.tensor([10.8, 1.5, 36.0]))
    present = torch.ones(1, 4, dtype=torch.bool)
    found = planar_pose(consistent_poses(believed, relative(true), present, torch.zeros(1, 4, 4)))
    assert torch.allclose(found[0, 1].float(), torch.tensor([10.0, 2, 30]), atol=0.05)


def test_who_is_alone_keeps_the_pose():
    poses = planar_matrix(torch.tensor([[[3.0, 4, 50], [0, 0, 0]]]))
    present = torch.tensor([[True, False]])
    found = consistent_poses(poses, relative(poses), present, torch.zeros(1, 2, 2))
    assert torch.allclose(found, poses.double())


def test_planar_poses_go_there_and_back():
    poses = torch.tensor([[1.0, -2, 170], [0, 5, -90]])
    assert torch.allclose(planar_pose(planar_matrix(poses)), poses, atol=1e-4)
    matrices = planar_matrix(poses)
    assert torch.allclose(planar_inverse(matrices) @ matrices, torch.eye(4).expand(2, 4, 4), atol=1e-5)


def test_robust_v2vnet_disturbs_poses_in_training_only():
    model, content = model_of("point_pillar_v2vnet_robust", "coalign"), batch("point_pillar_v2vnet_robust")
    poses = content["lidar_pose"].clone()
    first, second = (model.eval()(content) for _ in range(2))
    assert torch.equal(first["cls_preds"], second["cls_preds"])
    trained = model.train()(content)
    assert trained["pose_target"].abs().max() > 0.1
    assert torch.equal(content["lidar_pose"], poses)


# --- Where2comm ---------------------------------------------------------------------------------


def test_only_confident_cells_travel():
    model, content = model_of("point_pillar_where2comm").eval(), batch("point_pillar_where2comm")
    model.cls_head.weight.data.mul_(50)
    for parameter in model.parameters():
        parameter.data.mul_(2 if parameter.dim() > 1 else 1)
    rate = model(content)["com"]
    assert 0 < rate < 1
    model.channel = Channel()
    model.channel.meter.start_frame()
    assert torch.allclose(model(content)["com"], rate)
    everything = model_of("point_pillar_where2comm", where2comm_fusion=_where(fully=True)).eval()
    everything.channel = Channel()
    everything.channel.meter.start_frame()
    assert everything(content)["com"] == 1
    assert model.channel.meter.bytes_of_frame() < everything.channel.meter.bytes_of_frame()


def test_in_training_a_random_share_is_sent():
    model, content = model_of("point_pillar_where2comm").train(), batch("point_pillar_where2comm")
    rates = {float(model(content)["com"]) for _ in range(4)}
    assert len(rates) > 1
    assert all(0 <= rate < 1 for rate in rates)


def test_the_filter_keeps_its_weights():
    filter_ = model_of("point_pillar_where2comm").train().fusion_net.naive_communication.gaussian_filter
    assert not filter_.weight.requires_grad
    assert filter_.weight[0, 0, 1, 1] == pytest.approx(1 / (2 * math.pi))


@pytest.mark.parametrize("compression", [0, 4])
def test_one_scale_sends_the_necks_map(compression):
    changes = {"where2comm_fusion": _where(multi_scale=False), "compression": compression}
    model, content = model_of("point_pillar_where2comm", **changes).eval(), batch("point_pillar_where2comm")
    direct = model(content)
    model.channel = Channel()
    assert torch.allclose(model(content)["psm"], direct["psm"], atol=1e-6)


def _where(**changes):
    return MODELS["point_pillar_where2comm"]["where2comm_fusion"] | changes


# --- what a batch must tell ---------------------------------------------------------------------


def test_poses_are_asked_of_those_who_warp_only():
    content = batch("point_pillar_fcooper")
    del content["pairwise_t_matrix"]
    assert "psm" in model_of("point_pillar_fcooper")(content)
    with pytest.raises(DataError, match="point_pillar_v2vnet needs pairwise_t_matrix in the batch"):
        model_of("point_pillar_v2vnet")(content)


def test_the_delay_is_asked_of_those_who_encode_it():
    timed = MODELS["point_pillar_v2vnet"]["v2vfusion"] | {"use_temporal_encoding": True}
    model, content = model_of("point_pillar_v2vnet", v2vfusion=timed).eval(), batch("point_pillar_v2vnet")
    later = {**content, "prior_encoding": content["prior_encoding"] + torch.tensor([0.0, 1.0, 0.0])}
    assert not torch.equal(model(content)["psm"], model(later)["psm"])
    with pytest.raises(DataError, match="needs prior_encoding"):
        model({key: value for key, value in content.items() if key != "prior_encoding"})


def test_kind_delay_and_motion_change_what_v2xvit_sees():
    model, content = model_of("point_pillar_transformer").eval(), batch("point_pillar_transformer")
    plain = model(content)["psm"]
    for column in (1, 2):
        changed = content["prior_encoding"].clone()
        changed[:, 1, column] += 1 - 2 * changed[:, 1, column] if column == 2 else 2
        assert not torch.equal(model({**content, "prior_encoding": changed})["psm"], plain)
    moved = content["spatial_correction_matrix"].clone()
    moved[:, 1, 1, 3] += 1.0
    assert not torch.equal(model({**content, "spatial_correction_matrix": moved})["psm"], plain)


# --- flavors ------------------------------------------------------------------------------------


def test_families_mean_different_detectors_by_one_name():
    args = {"base_bev_backbone": {**MODELS["point_pillar"]["base_bev_backbone"], "inplanes": 16}}
    projected, warped = (model_of("point_pillar_intermediate", flavor, **args) for flavor in ("opencood", "coalign"))
    assert (projected.assembly.frame, warped.assembly.frame) == ("ego", "own")
    one = model_of("point_pillar_intermediate", "v2xreal", **args, num_class=3, shrink_header=_shrink())
    assert one.cls_head.out_channels == 18
    assert "psm" in one.eval()(batch("point_pillar_intermediate"))


def test_masks_of_axial_attention_rename_its_parts():
    section = MODELS["point_pillar_fax"]["fax_fusion"]
    names = {
        mask: set(model_of("point_pillar_fax", fax_fusion=section | {"mask": mask}).fusion_net.layers[0].state_dict())
        for mask in (True, False)
    }
    assert {name.split(".")[0] for name in names[True]} == {
        "window_attention", "window_ffd", "grid_attention", "grid_ffd"
    }  # fmt: skip
    assert {name.split(".")[1] for name in names[False]} == {"1", "2", "5", "6"}


def _shrink():
    return MODELS["point_pillar"]["shrink_header"]


# --- auto-encoder, MASH -------------------------------------------------------------------------


def test_codes_are_smaller_and_narrower():
    codec = AutoEncoder(16, 2)
    x = torch.rand(1, 16, 8, 12)
    assert codec.encoder(x).shape == (1, 4, 2, 3)
    assert codec(x).shape == x.shape
    assert torch.equal(AutoEncoder(16, 0)(x), x)
    with pytest.raises(ConfigError, match="16 channels cannot be halved 5 times"):
        AutoEncoder(16, 5)


def test_correspondences_are_distances():
    query, key = torch.rand(1, 4, 2, 3), torch.rand(1, 4, 2, 3)
    volume = correspondences(query, key)
    distances = torch.cdist(key.flatten(2).transpose(1, 2), query.flatten(2).transpose(1, 2))
    assert torch.allclose(volume[:, :6].flatten(2), -distances, atol=1e-4)
    assert torch.allclose(volume[:, 6], -query.norm(dim=1), atol=1e-5)
    assert torch.allclose(correspondences(query, key, halves=True), volume, atol=0.05)


@pytest.mark.parametrize(("keeps_matches", "kept"), [(True, True), (False, False)])
def test_mash_fetches_matches_unless_published(keeps_matches, kept):
    net = MashFusion(3, 2, 2, 2, 3, keeps_matches=keeps_matches)
    volume = torch.zeros(1, 7, 2, 3)
    volume[:, 4] = 1.0
    assert bool(net._fetched(torch.rand(1, 3, 2, 3) + 1, volume).any()) == kept


def test_mash_wants_the_map_it_was_built_for():
    with pytest.raises(ConfigError, match=r"mash: H, W are \(8, 8\), but the map has 16 x 16 cells"):
        section = MODELS["point_pillar_mash"]["mash"] | {"H": 8, "W": 8}
        model_of("point_pillar_mash", mash=section)(batch("point_pillar_mash"))


# --- HM-ViT -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("warpslow", [True, False])
def test_only_the_ego_is_needed_in_the_last_stage(mode, warpslow):
    section = MODELS["hmvit"]["hmvit"]
    block = section["hetero_fusion_block"] | {"architect_mode": mode}
    net = REGISTRY.build("fusion", "hmvit", section | {"hetero_fusion_block": block, "warpslow": warpslow}).eval()
    x, kinds = torch.rand(1, 3, 8, 8, 24), torch.tensor([[1, 0, 1]])
    views = net.views(torch.eye(4).repeat(1, 3, 3, 1, 1), torch.tensor([[True, True, False]]), x)
    everyone = net.hetero_fusion_block(x, views, kinds)
    assert torch.allclose(net.hetero_fusion_block(x, views, kinds, only_ego=True), everyone[:, :1], atol=1e-5)
    assert not views.covered[:, :, 2].any()


def test_types_come_from_names_sensors_or_a_table():
    args = {"m1": {"sensor_type": "lidar"}, "m2": {"sensor_type": "camera"}, "m4": {"sensor_type": "lidar"}}
    assert types_of(args) == {"m1": 1, "m2": 1, "m4": 0}
    assert types_of({**args, "hmvit": {"type_of": "sensor"}}) == {"m1": 1, "m2": 0, "m4": 1}
    with pytest.raises(ConfigError, match=r"type_of: no type for m2, m4"):
        types_of({**args, "hmvit": {"type_of": {"m1": 0}}})


def test_a_decoder_per_type_in_any_order():
    head = REGISTRY.build("head", "hetero_decoder", {**MODELS["hmvit"]["hetero_decoder"], "num_types": 4}).eval()
    maps, kinds = torch.rand(4, 24, 4, 4), [3, 0, 3, 1]
    together = head(SceneFeatures((maps,), (1,) * 4, kind=torch.tensor(kinds)))["cls_preds"]
    apart = [head.decode(maps[row : row + 1], [kind])["cls"] for row, kind in enumerate(kinds)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_absent_agents_say_nothing():
    model, content = build_model(hypes("hmvit")).eval(), batch("hmvit", (3,))
    scene = model.encode(content)
    fewer = scene.select([True, True, False])
    assert torch.allclose(
        model.finish(fewer)["cls_preds"],
        model.finish(replace(fewer, pairwise=scene.pairwise[:, :2, :2]))["cls_preds"],
    )


# --- domain adaptation --------------------------------------------------------------------------


def test_two_domains_give_what_their_classifiers_read():
    sections = {"DA_feature_head": 24, "DA_instance_head": 8}
    model = model_of("point_pillar_fax", "v2v4real", **sections).eval()
    outputs = forward_domains(model, batch("point_pillar_fax"), batch("point_pillar_fax", seed=1))
    assert outputs.keys() == {
        "psm", "rm", "source_feature", "target_psm", "target_rm", "target_feature"
    }  # fmt: skip
    assert outputs["source_feature"].shape == outputs["target_feature"].shape == (2, 24, 16, 16)
    assert not torch.equal(outputs["psm"], outputs["target_psm"])


# --- cameras ------------------------------------------------------------------------------------


def camera_args(method):
    grid = {"xbound": [-6.4, 6.4, 0.4], "ybound": [-6.4, 6.4, 0.4], "zbound": [-10, 10, 20.0]}
    return {
        "grid_conf": grid | {"ddiscr": [2, 10, 8], "mode": "LID"},
        "data_aug_conf": {"final_dim": [32, 64]},
        "img_downsample": 8,
        "img_features": 8,
        "camera_encoder": "SmallResnet",
        "bevout_feature": 128,
        "anchor_number": 2,
        "supervise_single": True,
        "fusion_args": {"core_method": method, "args": {}},
    }


@pytest.mark.parametrize("method", ["max", "att", "max_ms", "att_ms"])
def test_cameras_are_fused_inside_and_judged_alone(method):
    section = {"core_method": "lift_splat_shoot_intermediate", "args": camera_args(method)}
    model = build_model({"model": section, "flavor": "coalign", "parity": "published"}).eval()
    content = batch("point_pillar_baseline", (2, 1))
    turns = torch.eye(3).expand(3, 1, 3, 3)
    content["image_inputs"] = {"imgs": torch.rand(3, 1, 3, 32, 64), "rots": turns, "post_rots": turns}
    content["image_inputs"] |= {"trans": torch.zeros(3, 1, 3), "post_trans": torch.zeros(3, 1, 3)}
    content["image_inputs"]["intrins"] = torch.tensor([[40.0, 0, 32], [0, 40, 16], [0, 0, 1]]).expand(3, 1, 3, 3)
    outputs = model(content)
    assert outputs["cls_preds"].shape == (2, 2, 16, 16)
    assert outputs["cls_preds_single"].shape == (3, 2, 16, 16)
    assert outputs["reg_preds_single"].shape == (3, 14, 16, 16)
    model.channel = Channel()
    assert torch.allclose(model(content)["cls_preds"], outputs["cls_preds"], atol=1e-6)


def test_small_maps_cannot_correct_poses():
    small = {"base_bev_backbone": MODELS["point_pillar"]["base_bev_backbone"]}
    with pytest.raises(ConfigError, match="needs maps of 32 cells at least, not 16 x 16"):
        half = {"lidar_range": MODELS["point_pillar"]["lidar_range"]}
        model_of("point_pillar_v2vnet_robust", "coalign", **small, **half)(batch("point_pillar_v2vnet_robust"))
