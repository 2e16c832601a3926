"""One file with a link, a fusion, a decoder and its assembly row is a method: nothing else has to be touched."""

import pytest
import torch
from model_samples import MODELS, batch, hypes
from torch import nn

from opencood.communication import Channel, Message
from opencood.models import parts
from opencood.models.assemblies import HETER_ARGS, fuse_once
from opencood.models.assembly import Assembly, Part
from opencood.models.build import build_model
from opencood.models.builder import register_assembly
from opencood.models.links.base import Link, joined
from opencood.registry import REGISTRY

NAME = "toy_method"


class AskedCells(Link):
    """Sends the cells that are confident and asked for; the codes are read with the modality's own decoder."""

    def __init__(self, codecs):
        super().__init__()
        self._codecs = codecs
        self._probes = {}

    def bind(self, probes):
        self._probes = dict(probes)

    def request(self, ego):
        return Message({"wanted": ego.map.mean(dim=1, keepdim=True) > -1e9}, kind="cells")

    def send(self, own, request=None):
        confidence = self._probes["confidence"](own.map).amax(dim=1, keepdim=True).sigmoid()
        wanted = request.tensors["wanted"] if len(request.tensors["wanted"]) == 1 else 1
        return Message({"map": self._codecs["code_m1"](own.map * (confidence > 0) * wanted)})

    def receive(self, messages, ego, target):
        level = self._codecs["decode"](joined(messages, "map"))
        return target.with_maps(level, _seen=len(messages), agents_heard=target.agents)


class SumFusion(nn.Module):
    def forward(self, scene):
        return scene.pad(scene.to_ego(scene.map)).sum(dim=1)


class Decoder(nn.Module):
    def __init__(self, prefix=""):
        super().__init__()
        self.prefix = prefix
        self.conv = nn.Conv2d(24, 2, 1)

    def forward(self, scene):
        return {f"{self.prefix}cls_preds": self.conv(scene.map), f"{self.prefix}names": list(scene.modality)}


class Twice(nn.Module):
    def forward(self, outputs, scene):
        return {**outputs, "refined": outputs["cls_preds"] * 2, "_working": 0}


ROW = Assembly(
    NAME,
    "A method from a user's file.",
    (
        Part("encode", "encoder_{m}", parts.encoder),
        Part("encode", "backbone_{m}", parts.base_backbone),
        Part("link", "code_{m}", lambda ctx: nn.Conv2d(24, 4, 1)),
        Part("link", "decode", lambda ctx: nn.Conv2d(4, 24, 1)),
        Part("fuse", "fusion_net", lambda ctx: SumFusion()),
        Part("own_head", "first.look", lambda ctx: Decoder("own_")),
        Part("head", "cls_head", lambda ctx: nn.Conv2d(24, 2, 1), "plain"),
        Part("head", "decoder", lambda ctx: Decoder()),
        Part("refine", "second_stage", lambda ctx: Twice()),
    ),
    fuse_once,
    collaborates=True,
    batch_key="inputs_{m}",
    args=HETER_ARGS,
    link=AskedCells,
    probes={"confidence": ("cls_head",)},
    feature_key="feature",
)


@pytest.fixture
def model():
    if not REGISTRY.has("model", NAME):
        register_assembly(ROW)
    config = hypes("heter_model_baseline")
    config["model"] = {
        "core_method": NAME,
        "args": {k: MODELS["heter_model_baseline"][k] for k in ("lidar_range", "m1")},
    }
    torch.manual_seed(0)
    return build_model(config).eval().requires_grad_(False)


def test_the_row_decides_names_and_outputs(model):
    tops = {key.split(".")[0] for key in model.state_dict()}
    assert tops == {"encoder_m1", "backbone_m1", "code_m1", "decode", "cls_head", "decoder", "first"}
    assert "first.look.conv.weight" in model.state_dict()
    outputs = model(batch("heter_model_baseline"))
    assert set(outputs) == {
        "cls_preds", "names", "plain", "feature", "refined", "agents_heard", "own_cls_preds", "own_names"
    }  # fmt: skip
    assert outputs["names"] == ["m1"] * 2 and outputs["own_names"] == ["m1"] * 5 and outputs["agents_heard"] == 5
    assert outputs["feature"].shape[:2] == (2, 24)


def test_requests_and_answers_go_through_the_channel(model):
    sample = batch("heter_model_baseline")
    direct = model(sample)
    model.channel = Channel()
    model.channel.meter.start_frame()
    assert torch.allclose(model(sample)["cls_preds"], direct["cls_preds"], atol=1e-6)
    assert set(model.channel.meter.links) == {
        (s, a, b) for s, i in ((0, 1), (0, 2), (1, 1)) for a, b in ((0, i), (i, 0))
    }


def test_a_lost_request_is_not_answered(model):
    class DeafAgents(Channel):
        def transmit(self, message, sender, receiver, scene=0):
            return super().transmit(message, sender, receiver, scene) if message.kind != "cells" else None

    model.channel = DeafAgents()
    outputs = model(batch("heter_model_baseline"))
    assert outputs["agents_heard"] == 2
    assert model.channel.meter.total_bytes == 0
