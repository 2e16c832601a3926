"""GenComm and the baselines beside it: links by themselves and in detectors with two types."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_samples import PLAIN, RANGE, TRANSLATOR, batch, cloud, hypes
from torch import nn

from opencood.communication import Channel, encode
from opencood.config.flavor import quirk
from opencood.errors import ConfigError, DataError
from opencood.models.backbones.crop import CenterFit
from opencood.models.backbones.deformable import DeformableConv2d
from opencood.models.build import build_model
from opencood.models.links.adapters import Translator
from opencood.models.links.codefilling_mask import CommunicationMask
from opencood.models.links.degradation import Degradation
from opencood.models.links.diffusion import FeatureGenerator
from opencood.models.links.diffusion_unet import DenoisingUNet
from opencood.models.links.message_extractor import MessageBranch, MessageExtractor
from opencood.models.scene import SceneFeatures

STAGE2, CODEBOOK = "heter_model_baseline_w_gencomm_stage2", "heter_model_baseline_w_codebook"
STAMP, MPDA = "heter_model_baseline_w_stamp_infer", "heter_model_baseline_w_mpda"
STAMP_TRAINING = "heter_model_baseline_w_stamp"
NAMES = ["m1", "m2", "m2", "m1", "m2"]


def two_types(name, ego="m1", parity="fixed", **changes):
    """A detector of m1 and m2."""
    config = hypes(name, ego_modality=ego, **changes) | {"parity": parity}
    args = config["model"]["args"]
    args["m2"] = copy.deepcopy(args["m1"])
    torch.manual_seed(2)
    return build_model(config)


def two_type_batch(names=NAMES, record_len=(3, 2)):
    content = batch(STAGE2, record_len) | {"agent_modality_list": list(names)}
    del content["inputs_m1"]
    for m in sorted(set(names)):
        rows = [row for row, name in enumerate(names) if name == m]
        voxels = [cloud([row]) for row in rows]
        for number, part in enumerate(voxels):
            part["voxel_coords"][:, 0] = number
        content[f"inputs_{m}"] = {key: torch.cat([part[key] for part in voxels]) for key in voxels[0]}
    return content


# --- deformable convolution ---------------------------------------------------------------------


def plain_deformable(layer, x, offsets):
    """Tap by tap, cell by cell."""
    count, _, height, width = x.shape
    result = torch.zeros(count, len(layer.bias), height, width)
    for n in range(count):
        for row in range(height):
            for column in range(width):
                total = layer.bias.clone()
                for tap in range(9):
                    down, right = offsets[n, 2 * tap : 2 * tap + 2, row, column].tolist()
                    value = _bilinear(x[n], row + tap // 3 - 1 + down, column + tap % 3 - 1 + right)
                    total = total + layer.weight[:, :, tap // 3, tap % 3] @ value
                result[n, :, row, column] = total
    return result


def _bilinear(level, row, column):
    value = torch.zeros(len(level))
    top, left = int(row // 1), int(column // 1)
    for r in (top, top + 1):
        for c in (left, left + 1):
            if 0 <= r < level.shape[1] and 0 <= c < level.shape[2]:
                value = value + level[:, r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return value


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 1000), height=st.integers(1, 3), width=st.integers(1, 3))
def test_deformable_convolution_equals_a_loop(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    layer = DeformableConv2d(3, 2).requires_grad_(False)
    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
    x = torch.randn(1, 3, height, width, generator=generator)
    offsets = torch.randn(1, 18, height, width, generator=generator) * 2
    assert torch.allclose(layer(x, offsets), plain_deformable(layer, x, offsets), atol=1e-5)


def test_without_offsets_it_is_a_convolution():
    layer, x = DeformableConv2d(4, 3), torch.randn(2, 4, 6, 5)
    wanted = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
    assert torch.allclose(layer(x, torch.zeros(2, 18, 6, 5)), wanted, atol=1e-5)


# --- messages and generation --------------------------------------------------------------------


def test_a_camera_makes_its_message_before_its_map_is_fitted():
    extractor, x = MessageExtractor(8, 2).eval(), torch.randn(1, 8, 6, 6)
    level, message = MessageBranch(extractor, CenterFit(1.0, 2.0))(x)
    assert level.shape == (1, 8, 6, 12) and message.shape == (1, 2, 6, 12)
    assert torch.allclose(message[..., 3:9], extractor(x), atol=1e-6)
    assert not message[..., :3].any() and not message[..., 9:].any()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_any_number_of_steps(steps):
    generator = FeatureGenerator(DenoisingUNet(4, 4, 8, [1], 1), steps)
    asked = []

    def noise(number, like):
        asked.append(number)
        return torch.zeros_like(like)

    made = generator(torch.randn(2, 4, 4, 4), torch.randn(2, 2, 8, 8), noise)
    assert made.shape == (2, 4, 8, 8)
    assert asked == [steps, *range(steps - 1, 0, -1)]


def test_a_unet_says_which_maps_it_can_halve():
    with pytest.raises(ConfigError, match="6 x 5 cells.*multiples of 2"):
        DenoisingUNet(4, 4, 8, [1, 1], 1)(torch.randn(1, 6, 6, 5), torch.zeros(1))
    with pytest.raises(ConfigError, match="multiples of 4"):
        DenoisingUNet(4, 4, 6, [1], 1)


def test_evaluation_is_the_same_whatever_else_is_in_the_batch():
    model = two_types(STAGE2).eval()
    with torch.no_grad():
        both, again = (model(two_type_batch()) for _ in range(2))
        alone = model(two_type_batch(NAMES[:3], (3,)))
    assert torch.equal(both["cls_preds"], again["cls_preds"])
    assert torch.allclose(both["pred_feature"][:3], alone["pred_feature"], atol=1e-5)


def test_training_draws_anew():
    model = two_types(STAGE2)
    torch.manual_seed(0)
    first, second = (model(two_type_batch())["pred_feature"] for _ in range(2))
    torch.manual_seed(0)
    assert not torch.equal(first, second)
    assert torch.equal(model(two_type_batch())["pred_feature"], first)


def test_stage_2_trains_the_messages_of_types_that_join_and_nothing_else():
    model = two_types(STAGE2).train()
    before = copy.deepcopy(model.state_dict())
    outputs = model(two_type_batch())
    sum(outputs[key].square().mean() for key in ("cls_preds", "reg_preds")).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained and all(name.startswith("message_extractor_m2.") for name in trained)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_ego_keeps_its_feature_when_asked():
    sample = two_type_batch()
    generated = two_types(STAGE2, sampling={"keep_ego_feature": False}).eval()
    kept = two_types(STAGE2, sampling={"keep_ego_feature": True}).eval()
    scene = kept.encode(sample)
    for model, wanted in ((kept, True), (generated, False)):
        model.link._parts.enhancer = None
        received = model.exchange(scene).map
        assert torch.allclose(received[[0, 3]], scene.maps[0][[0, 3]]) == wanted
        assert not torch.allclose(received[[1, 4]], scene.maps[0][[1, 4]])


@pytest.mark.parametrize(("parity", "start", "kept"), [("published", "ego", False), ("fixed", "warped_ego", True)])
def test_where_the_sampler_starts_follows_parity(parity, start, kept):
    hypes = {"flavor": "gencomm", "parity": parity}
    assert quirk(hypes, "generator_start") == start
    assert quirk(hypes, "generator_keeps_ego_feature") is kept


def test_a_warped_start_is_the_ego_seen_from_the_sender():
    generator = torch.Generator().manual_seed(1)
    pairwise = torch.eye(4).repeat(1, 2, 2, 1, 1)
    pairwise[0, 0, 1, 0, 3], pairwise[0, 1, 0, 0, 3] = 2.0, -2.0  # the ego is two cells ahead of the other
    scene = SceneFeatures((torch.randn(2, 3, 4, 8, generator=generator),), (2,), pairwise, (4.0, 8.0))
    there = scene.from_ego(scene.map)
    assert torch.allclose(there[0], scene.map[0])
    back = scene.to_ego(there)
    assert torch.allclose(back[1, :, :, 2:-2], scene.map[1, :, :, 2:-2], atol=1e-5)


def test_a_leak_is_declared_and_ends_at_the_channel():
    honest, leaky = two_types(STAGE2).eval(), two_types(STAGE2, trick=True).eval()
    assert honest.link.leaks == () and "sender's own feature" in leaky.link.leaks[0]
    leaky(two_type_batch())
    leaky.channel = Channel()
    with pytest.raises(ConfigError, match="trick.*never sent"):
        leaky(two_type_batch())


@pytest.mark.parametrize("changes", [{"enhancer": "enhancev12", "message_extractor": "conv2d"}, {"enhancer": None}])
def test_older_files_give_names(changes):
    wanted = build_model(hypes(STAGE2)).state_dict()
    assert build_model(hypes(STAGE2, **changes)).state_dict().keys() == wanted.keys()


def test_the_older_name_of_the_generator():
    config = hypes(STAGE2)
    config["model"]["core_method"] = "heter_model_baseline_w_diffcomm"
    config["model"]["args"]["diffcomm"] = config["model"]["args"].pop("gencomm")
    assert hasattr(build_model(config), "gencomm")


WRONG = [
    (STAGE2, {"message_extractor": {"in_ch": 24, "out_ch": 3}}, "messages of 2 channels"),
    (STAGE2, {"message_extractor": {"in_ch": 12}}, "made for 12 channels, but 24 arrive"),
    (STAGE2, {"gencomm": {"model": {}}}, "missing key 'diffusion'"),
    (STAGE2, {"sampling": {"start": "eg"}}, "'eg' is none of ego, warped_ego, noise"),
    (CODEBOOK, {"codebook": {"seg_num": 5, "dict_size": 4, "channel": 24}}, "seg_num 5 must divide the 24 channels"),
    (CODEBOOK, {"communication": {"thre": 0, "solver": {"method": "min"}}}, "'min' is none of max, sum"),
    (STAMP, {"ego_modality": "m7"}, "ego_modality: one of the types"),
    (STAMP, {"m1": PLAIN}, "missing key 'adapter'"),
    (MPDA, {"degradation": {"drop": 2.0}}, "drop lies between 0 and 1"),
]


@pytest.mark.parametrize(("name", "changes", "message"), WRONG)
def test_wrong_arguments(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        build_model(hypes(name, **changes))


@pytest.mark.parametrize("name", ["heter_model_baseline_w_diffcomm_gmatch", "heter_diffcomm_single"])
def test_models_without_code_are_refused(name):
    with pytest.raises(ConfigError, match="never published"):
        build_model({"model": {"core_method": name, "args": {"anything": 1}}, "flavor": "gencomm"})


# --- damaged messages ---------------------------------------------------------------------------


def test_damage_spares_the_ego_and_training_and_repeats():
    damage, x, slots = Degradation(drop=0.5, noise_std=0.1), torch.randn(3, 4, 5, 5), torch.tensor([0, 1, 0])
    assert torch.equal(damage(x, slots), x)
    damage.eval()
    first, second = damage(x, slots), damage(x, slots)
    assert torch.equal(first, second) and torch.equal(first[[0, 2]], x[[0, 2]])
    assert 0.2 < ((first - x).abs()[1] > 0.5 * x.abs()[1]).float().mean() < 0.9
    assert not Degradation(drop=1.0).eval()(x, slots)[1].any()


@pytest.mark.parametrize("name", [STAGE2, CODEBOOK, STAMP, MPDA, "heter_model_baseline_w_backalign"])
def test_missing_messages_change_what_egos_read(name):
    whole, damaged = (two_types(name, missing_message=missing).eval() for missing in (False, True))
    with torch.no_grad():
        outputs = [model(two_type_batch())["cls_preds"] for model in (whole, damaged)]
        lonely = [model(two_type_batch(["m1"], (1,)))["cls_preds"] for model in (whole, damaged)]
    assert not torch.allclose(*outputs) and torch.equal(*lonely)


def test_repaired_missing_messages_are_the_same_for_every_method():
    methods = (STAGE2, CODEBOOK, STAMP, MPDA, "heter_model_baseline_w_backalign")
    levels = {
        parity: {(m.degradation.drop, m.degradation.noise_std) for m in
                 (two_types(name, missing_message=True, parity=parity) for name in methods)}
        for parity in ("published", "fixed")
    }  # fmt: skip
    assert levels["published"] == {(0.1, 0.0), (0.05, 3.0), (0.2, 0.0)}
    assert levels["fixed"] == {(0.1, 0.0)}


# --- CodeFilling --------------------------------------------------------------------------------


def test_a_message_costs_its_bits():
    model = two_types(CODEBOOK, communication={"thre": 0.0}).eval()
    message = model.link.send(model.encode(two_type_batch()).alone(1))
    cells = 16 * 16
    # a bit per cell, and three levels of two words out of twelve, four bits each
    assert message.tensors["mask"].numel() == cells // 8
    assert message.tensors["codes"].numel() == cells * 3 * 2 * 4 // 8
    assert len(encode(message)) < cells // 8 + cells * 3 + 100


def test_only_the_codebook_trains_and_hears_of_it():
    model = two_types(CODEBOOK).train()
    outputs = model(two_type_batch())
    (outputs["cls_preds"].mean() + outputs["codebook_loss"]).backward()
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"coodbook"}
    assert 0 <= outputs["comm_rate"] <= 1


def selection_scene(record_len=(3,)):
    slots = max(record_len)
    pairwise = torch.eye(4).repeat(len(record_len), slots, slots, 1, 1)
    return SceneFeatures((), record_len, pairwise, (1.0, 1.0))


def test_the_sum_keeps_the_surest_until_it_is_enough():
    mask = CommunicationMask(0.0, solver={"thre": 1.0, "method": "sum"})
    confidence = torch.tensor([0.3, 0.2, 0.45, 0.9, 0.05]).view(5, 1, 1, 1)
    kept = mask.selected(confidence, selection_scene((3, 2))).flatten()
    # 0.3 + 0.45 + 0.2 < 1; 0.9 + 0.05 < 1
    assert kept.tolist() == [1, 1, 1, 1, 1]
    strict = CommunicationMask(0.0, solver={"thre": 0.8, "method": "sum"})
    assert strict.selected(confidence, selection_scene((3, 2))).flatten().tolist() == [1, 0, 1, 1, 0]


# --- MPDA ---------------------------------------------------------------------------------------


def test_the_gradient_of_the_classifier_is_reversed():
    model = two_types(MPDA).train()
    outputs = model(two_type_batch())
    assert outputs["record_len"].tolist() == [3, 2] and outputs["da_feature"].shape == (5, 1, 16, 16)
    plain = model.classifier.conv1_da.weight.detach()
    assert plain.std() < 0.01
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"resizer", "cdt", "classifier", "cls_head", "reg_head", "dir_head"}


def test_rebuttal_leaves_maps_alone():
    model = two_types(MPDA, rebuttal=True).eval()
    scene = model.encode(two_type_batch())
    with torch.no_grad():
        assert torch.equal(model.exchange(scene).map, scene.map)


def test_maps_are_halved_on_the_way():
    config = hypes(MPDA, spatial_shrinker=True, in_head=256, att={"feat_dim": 256}, classifier=256)
    args = config["model"]["args"]
    args["m1"]["shrink_header"] = args["m1"]["shrink_header"] | {"dim": [256]}
    args["resizer"] |= {"input_channel": 256, "output_channel": 256, "residual": {"input_dim": 256, "depth": 1}}
    args["resizer"]["wg_att"] = args["resizer"]["wg_att"] | {"input_dim": 256}
    args["cdt"] = args["cdt"] | {"input_dim": 256}
    model = build_model(config).eval()
    scene = model.encode(batch(MPDA, (2,)))
    with torch.no_grad():
        assert scene.map.shape[-2:] == (8, 8) and model.exchange(scene).map.shape[-2:] == (16, 16)


# --- STAMP --------------------------------------------------------------------------------------


def test_only_other_types_go_through_the_protocol():
    model = two_types(STAMP).eval()
    names = ["m1", "m2", "m1", "m1", "m2"]
    scene = model.encode(two_type_batch(names))
    with torch.no_grad():
        received = model.exchange(scene).map
        written = model.reverter_m1(model.adapter_m2(scene.map[[1, 4]]))
    assert torch.equal(received[[0, 2, 3]], scene.map[[0, 2, 3]])
    assert torch.allclose(received[[1, 4]], written, atol=1e-6)
    model.channel = Channel()
    with torch.no_grad():
        assert torch.allclose(model.exchange(scene).map, received, atol=1e-6)


def test_an_ego_of_another_type_is_refused():
    with pytest.raises(DataError, match="egos of type m1"):
        two_types(STAMP).eval()(two_type_batch(["m2", "m1", "m1", "m1", "m1"]))


def adapter_training(**changes):
    args = {
        "lidar_range": RANGE,
        "stage": "train_adapter",
        "ego_modality": "m1",
        "m0": PLAIN | {"aligner_args": {"core_method": "identity"}},
        "m1": PLAIN | {"aligner_args": {"core_method": "identity"}, "adapter": TRANSLATOR, "reverter": TRANSLATOR},
    }
    return {"model": {"core_method": STAMP_TRAINING, "args": args | changes}, "flavor": "gencomm"}


def adapter_batch():
    sample = batch(STAGE2, (2, 1))
    return sample | {"inputs_m0": cloud([0, 1, 2], seed=1)}


def test_adapters_train_and_what_they_join_is_still():
    model = build_model(adapter_training()).train()
    before = copy.deepcopy(model.state_dict())
    features = model(adapter_batch())
    assert set(features) == {"FM", "FP2M", "FM2P2M", "FP", "FM2P"}
    features["FM2P2M"].square().mean().backward()
    # the cycle teaches the reverter alone
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"reverter_m1"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_agents_of_the_protocol_type_teach_nothing():
    sample = adapter_batch() | {"agent_modality_list": ["m1", "m0", "m1"], "inputs_m1": cloud([0, 1])}
    model = build_model(adapter_training()).eval()
    with torch.no_grad():
        features, protocol = model(sample), model(adapter_batch())["FP"]
    assert torch.allclose(features["FP"], protocol[[0, 2]], atol=1e-6) and len(features["FM"]) == 2


def test_adapters_are_compared_where_both_types_see():
    narrow = [-3.2, -6.4, -3, 6.4, 6.4, 1]
    config = adapter_training(crop_to_visible=True)
    config["model"]["args"]["m1"]["visible_range"] = narrow
    features = build_model(config)(adapter_batch())
    assert {level.shape[-2:] for level in features.values()} == {torch.Size([16, 12])}


def test_adapter_training_says_what_it_needs():
    model = build_model(adapter_training())
    with pytest.raises(DataError, match="no inputs_m0.*intermediateheteradapter"):
        model(batch(STAGE2, (2, 1)))
    for changes, message in (
        ({"stage": "collab_train"}, "not published in a working state"),
        ({"stage": "train"}, "is unknown"),
        ({"m2": PLAIN}, "m0 and one other type, not m0, m1, m2"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_model(adapter_training(**changes))
    build_model(adapter_training(m2=PLAIN, ignored_modality=["m2"]))


def translator(kind, shapes=((8, 16), (8, 16)), wide=RANGE, **submodule_args):
    args = {
        "in_channels": 8, "out_channels": 4, "in_cav_lidar_range": RANGE, "out_cav_lidar_range": wide,
        "in_feature_shape": shapes[0], "out_feature_shape": shapes[1],
    }  # fmt: skip
    if submodule_args:
        args["submodule_args"] = submodule_args
    return Translator("adapter", kind, args)


KINDS = [
    ("adapterconvnext", {"dim": 4}),
    ("adapterconvnext", {"dim": 4, "late_upsample": True}),
    ("adapterconv", {}),
    ("adapterfc", {}),
    ("adapteratt", {"dim": 8, "patch_size": 2, "num_heads": 2, "depth": 1}),
    ("adapterdsa", {"dim": 8, "num_heads": 2, "num_points": 2, "depth": 1}),
    ("identity", {}),
]


@pytest.mark.parametrize(("kind", "args"), KINDS)
def test_adapters_change_channels_and_grid(kind, args):
    module, x = translator(kind, shapes=((8, 16), (16, 16)), **args), torch.randn(2, 8, 8, 16, requires_grad=True)
    y = module(x)
    assert y.shape == (2, 4, 16, 16)
    y.square().mean().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_adapters_pad_to_a_wider_range():
    wide = [-12.8, -6.4, -3, 12.8, 6.4, 1]
    for kind in ("adapterconv", "adapterfc", "adapterdsa"):
        y = translator(kind, shapes=((8, 16), (8, 32)), wide=wide, **({"dim": 8} if kind == "adapterdsa" else {}))(
            torch.randn(1, 8, 8, 16)
        )
        assert y.shape == (1, 4, 8, 32) and not y[..., :8].any() and y[..., 8:24].any()


def test_deformable_attention_reads_near_cells_first():
    module = translator("adapterdsa", dim=8, num_heads=4, num_points=1, depth=1)
    x = torch.randn(1, 8, 8, 16, requires_grad=True)
    module(x)[0, :, 4, 8].sum().backward()
    near = x.grad.abs().sum(dim=1)[0] > 0
    assert near[4, 8] and near[4, 9] and not near[0].any() and not near[:, :6].any()


def test_patches_attend_to_each_other_when_asked():
    x = torch.randn(2, 8, 8, 16)
    changed = x.clone()
    changed[1] += 1.0
    for over_tokens in (False, True):
        args = {"dim": 8, "patch_size": 2, "num_heads": 2, "depth": 1, "over_tokens": over_tokens}
        module = translator("adapteratt", **args).eval()
        with torch.no_grad():
            module.adapter.blocks[0].attn.in_proj_weight.normal_()
            assert torch.allclose(module(x)[0], module(changed)[0], atol=1e-6) == over_tokens


def test_adapters_say_what_is_wrong():
    with pytest.raises(ConfigError, match="128 patches|32 patches|patches of 2 x 2"):
        translator("adapteratt", dim=8, patch_size=2, num_heads=2, depth=1)(torch.randn(1, 8, 4, 4))
    with pytest.raises(ConfigError, match="unknown adapter 'adaptercon'"):
        translator("adaptercon")
    with pytest.warns(UserWarning, match="unknown key 'dims'"):
        translator("adapterconvnext", dims=3)
