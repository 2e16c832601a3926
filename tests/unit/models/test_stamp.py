"""STAMP's detectors by type: whose maps they read, what they give, what travels, calibrators, maps of the ground."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_samples import ALIGNED, HEADS, PYRAMID, RANGE, TRANSLATOR
from test_gencomm import two_type_batch

from opencood.communication import Channel
from opencood.errors import ConfigError, DataError
from opencood.losses.build import build_loss
from opencood.models.build import build_model
from opencood.models.heads.calibrator import DoublyBoundedScaling, PlattScaling, TemperatureScaling
from opencood.models.heads.segmentation import ClassMaps

NARROW = copy.deepcopy(TRANSLATOR)
NARROW["args"] |= {"in_channels": 16, "out_channels": 16}
SHRINK = {"kernal_size": [3], "stride": [1], "padding": [1], "dim": [24], "input_dim": 24}
TYPE: dict[str, Any] = (
    ALIGNED
    | {"lidar_range": RANGE, "fusion_method": "pyramid", "fusion_backbone": PYRAMID | {"resnext": False}}
    | {"shrink_header": SHRINK, "in_head": 24, "adapter": NARROW, "reverter": NARROW}
    | HEADS
)
SEGMENTING = TYPE | {
    "head_method": "bev_seg_head",
    "target": "static",
    "decoder_args": {"input_dim": 24, "num_layer": 1, "num_ch_dec": [12]},
    "seg_head_dim": 12,
    "output_class_dynamic": 2,
    "output_class_static": 3,
}
INFERENCE, LATE, TRAINING = "collab_w_adapter_inference", "heter_late_fusion", "collab_w_adapter"


def built(name: str, types: dict[str, Any], parity: str = "fixed", **changes: Any) -> Any:
    torch.manual_seed(3)
    args = copy.deepcopy(types) | {"ego_modality": "m1", **changes}
    return build_model({"model": {"core_method": name, "args": args}, "flavor": "stamp", "parity": parity}).eval()


def with_poses(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"pairwise_t_matrix": content["pairwise_t_matrix"].float()}


@torch.no_grad()
def test_every_type_that_is_there_reads_all_agents() -> None:
    model = built(INFERENCE, {"m0": TYPE, "m1": TYPE, "m2": SEGMENTING})
    outputs = model(with_poses(two_type_batch()))
    assert outputs["m1"]["cls_preds"].shape == (2, 2, 16, 16)
    assert outputs["m2"]["static_seg"].shape == (2, 3, 32, 32) and not outputs["m2"]["dynamic_seg"].any()
    assert torch.equal(outputs["cls_preds"], outputs["m1"]["cls_preds"]) and "m0" not in outputs
    model.protocol_output = True
    assert model(with_poses(two_type_batch()))["m0"]["cls_preds"].shape == (2, 2, 16, 16)
    # the ego's own feature is untouched: with nobody of another type translators do not matter
    alone = with_poses(two_type_batch(["m1"] * 5))
    before = model(alone)["m1"]["cls_preds"]
    for name, part in model.named_children():
        if name.startswith(("adapter_", "reverter_")):
            for parameter in part.parameters():
                parameter.mul_(3)
    assert torch.equal(model(alone)["m1"]["cls_preds"], before)


@torch.no_grad()
def test_agents_of_unknown_types_leave_with_their_poses() -> None:
    model = built(INFERENCE, {"m0": TYPE, "m1": TYPE, "m2": TYPE}, ignored_modality=["m2"])
    mixed = with_poses(two_type_batch())
    some = with_poses(two_type_batch(["m1", "m1"], (2,)))
    first_scene = {**mixed, "record_len": torch.tensor([3]), "agent_modality_list": mixed["agent_modality_list"][:3]}
    first_scene |= {"pairwise_t_matrix": mixed["pairwise_t_matrix"][:1]}
    first_scene["inputs_m1"] = {
        k: v[mixed["inputs_m1"]["voxel_coords"][:, 0] < 1] for k, v in mixed["inputs_m1"].items()
    }
    alone = with_poses(two_type_batch(["m1"], (1,)))
    assert torch.allclose(model(first_scene)["cls_preds"], model(alone)["cls_preds"], atol=1e-6)
    assert not torch.allclose(model(some)["cls_preds"], model(alone)["cls_preds"], atol=1e-6)
    with pytest.raises(DataError, match="no agent of m0, m1; it lists m2"):
        model({**mixed, "agent_modality_list": ["m2"] * 5})


@torch.no_grad()
def test_messages_are_what_the_ego_reads() -> None:
    model, sample = (
        built(INFERENCE, {"m0": TYPE, "m1": TYPE, "m2": TYPE}),
        with_poses(two_type_batch(["m1", "m2", "m1"], (3,))),
    )
    direct = model(sample)
    model.channel = Channel()
    model.channel.meter.start_frame()
    assert torch.allclose(model(sample)["cls_preds"], direct["cls_preds"], atol=1e-6)
    assert set(model.channel.meter.links) == {(0, 1, 0), (0, 2, 0)}
    assert model.channel.meter.bytes_of_frame() >= 2 * 16 * 16 * 16 * 4
    model.channel = Channel(agents=1)
    alone = model(sample)
    model.channel = None
    assert torch.allclose(alone["cls_preds"], model(with_poses(two_type_batch(["m1"], (1,))))["cls_preds"], atol=1e-6)


@torch.no_grad()
def test_late_types_are_single_agents() -> None:
    model = built(LATE, {"m1": TYPE, "m2": TYPE})
    whole = model(with_poses(two_type_batch()))
    assert whole["m1"]["cls_preds"].shape[0] == 2 and whole["m2"]["cls_preds"].shape[0] == 3
    assert torch.equal(whole["cls_preds"], whole["m1"]["cls_preds"])  # the m1 agents are the two egos
    alone = model(with_poses(two_type_batch(["m1"], (1,))))
    assert torch.allclose(whole["m1"]["cls_preds"][:1], alone["cls_preds"], atol=1e-5)


@pytest.mark.parametrize("stage", ["train_adapter", "train_adapter_w_output", "train_adapter_output_only"])
def test_adapters_learn_from_features_and_detections(stage: str) -> None:
    model = built(TRAINING, {"m0": TYPE, "m1": TYPE}, stage=stage, crop_to_visible=True).train()
    sample = with_poses(two_type_batch(["m1", "m1", "m1"], (3,)))
    sample["inputs_m0"] = sample["inputs_m1"]
    outputs = model(sample)
    assert {"FM", "FP2M", "FM2P2M", "FP", "FM2P"} <= set(outputs)
    assert ("m0" in outputs and "m1" in outputs) == (stage != "train_adapter")
    trained = {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"adapter_m1", "reverter_m1"}
    plain = {"core_method": "point_pillar_loss", "args": {"pos_cls_weight": 2.0, "cls": CLS, "reg": REG}}
    hypes = {
        "model": {"core_method": TRAINING, "args": {"stage": stage, "ego_modality": "m1"}},
        "loss": {"m0": plain, "m1": plain},
        "loss_adapter": {
            "core_method": "adapter_loss",
            "args": {"alpha_P2M": 9.0, "alpha_M2P2M": 1.0, "alpha_M2P": 10.0},
        },
        "flavor": "stamp",
    }
    loss = build_loss(hypes)
    labels = {
        "pos_equal_one": torch.zeros(1, 16, 16, 2),
        "neg_equal_one": torch.ones(1, 16, 16, 2),
        "targets": torch.zeros(1, 16, 16, 14),
    }
    ego = {"label_dict": labels, "label_dict_protocol": labels}
    targets = loss.targets(ego) if hasattr(loss, "targets") else labels
    total, terms = loss(outputs, targets)
    expected = {"train_adapter": {"P2M"}, "train_adapter_w_output": {"P2M", "m0_cls_loss", "m1_cls_loss"}}
    assert expected.get(stage, {"m0_cls_loss", "m1_cls_loss"}) <= set(terms)
    assert ("P2M" in terms) == (stage != "train_adapter_output_only")
    total.backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for n, p in model.named_parameters()
        if n.startswith("adapter_m1.adapter.channel")
    )


CLS = {"type": "SigmoidFocalLoss", "alpha": 0.25, "gamma": 2.0, "weight": 1.0}
REG = {"type": "WeightedSmoothL1Loss", "sigma": 3.0, "codewise": True, "weight": 2.0}


def test_stages_that_were_never_published() -> None:
    with pytest.raises(ConfigError, match="'collab_train' is not published in a working state"):
        built(TRAINING, {"m0": TYPE, "m1": TYPE}, stage="collab_train")
    assert type(built(TRAINING, {"m0": TYPE, "m1": TYPE}, stage="infer")) is type(
        built(INFERENCE, {"m0": TYPE, "m1": TYPE})
    )


# --- calibrators -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-6, 6), min_size=2, max_size=8), st.floats(-3, 3), st.floats(-3, 3))
def test_calibrated_scores_keep_their_order(logits: list[float], a: float, b: float) -> None:
    calibrator = DoublyBoundedScaling(on_logits=False).requires_grad_(False)
    calibrator._a.fill_(a)
    calibrator._b.fill_(b)
    found = calibrator(torch.tensor(sorted(logits)))
    assert found.isfinite().all() and (found.diff() >= -1e-4).all()


def test_fresh_calibrators_change_next_to_nothing() -> None:
    scores = torch.linspace(0.05, 0.95, 7)
    for kind in (DoublyBoundedScaling, PlattScaling, TemperatureScaling):
        assert torch.allclose(kind(on_logits=True).eval()(scores), scores, atol=1e-5)
        logits = torch.logit(scores)
        assert (
            torch.allclose(kind(on_logits=False)(logits).sigmoid(), torch.sigmoid(logits), atol=2e-2)
            or kind is not DoublyBoundedScaling
        )
    assert not TemperatureScaling().b.requires_grad
    assert sorted(DoublyBoundedScaling().state_dict()) == ["_a", "_b"]


def test_a_calibrator_belongs_to_its_type() -> None:
    calibrated = {"m1": TYPE | {"calibrator": {"core_method": "Platt"}}, "m2": TYPE}
    model = built("heter_late_fusion_w_calibrator_infer", calibrated, parity="published")
    sample = with_poses(two_type_batch())
    with torch.no_grad():
        before = model(sample)
        model.calibrator_m1.w.fill_(2.0)
        after = model(sample)
    assert torch.allclose(after["m1"]["cls_preds"], 2 * before["m1"]["cls_preds"])
    assert torch.equal(after["m2"]["cls_preds"], before["m2"]["cls_preds"])


# --- maps of the ground ----------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "dead"), [("static", "dynamic"), ("dynamic", "static"), ("both", None)])
def test_segmentation_heads(target: str, dead: str | None) -> None:
    maps = ClassMaps(4, target, 2, 3)
    assert hasattr(maps, "dynamic_head") == (target != "static") and hasattr(maps, "static_head")
    outputs = maps(torch.randn(2, 4, 5, 6))
    assert all(outputs[f"{kind}_seg"].any() == (kind != dead) for kind in ("static", "dynamic"))


def test_wrong_segmentation_arguments() -> None:
    with pytest.raises(ConfigError, match="target: 'statik' .* Did you mean 'static'"):
        built("homo_collab", {"m1": SEGMENTING | {"target": "statik"}})
    with pytest.raises(ConfigError, match=r"seg_head_dim: made for 8 channels, but 12 arrive"):
        built("homo_collab", {"m1": SEGMENTING | {"seg_head_dim": 8}})
    with pytest.raises(ConfigError, match="head_method: 'bev_seg_heat' is none of .* Did you mean 'bev_seg_head'"):
        built("homo_collab", {"m1": SEGMENTING | {"head_method": "bev_seg_heat"}})


def test_a_few_steps_of_segmentation() -> None:
    model = built(
        "homo_collab", {"m1": SEGMENTING | {"head_method": "seg_head", "seg_head_dim": 24, "target": "both"}}
    ).train()
    args = {"target": "both", "d_weights": 5.0, "s_weights": 2.0, "l_weights": 4.0, "d_coe": 2.0}
    loss = build_loss({"loss": {"core_method": "vanilla_seg_loss", "args": args}})
    sample = with_poses(two_type_batch(["m1"] * 3, (3,)))
    targets = {
        "static_bev": torch.arange(32).remainder(3).expand(1, 32, 32),
        "dynamic_bev": torch.zeros(1, 32, 32).long(),
    }
    targets["dynamic_bev"][:, 4:9] = 1
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    values = []
    for _ in range(12):
        total, terms = loss(model(sample), targets)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(total.detach()))
    assert {"static_loss", "dynamic_loss", "total_loss"} == set(terms)
    assert values[-1] < 0.8 * values[0]
