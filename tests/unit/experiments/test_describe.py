"""What describe_model says of a detector: the sizes are those of the real thing."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from opencood.communication import Message, encode
from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file
from opencood.experiments.build import build_model
from opencood.experiments.describe import describe, message_bits
from opencood.experiments.model_trace import Trace
from opencood.experiments.shrink import shrink
from opencood.tools.describe_model import main


@pytest.fixture(scope="module")
def hypes():
    return load_file(SHIPPED / "sim" / "intermediate.yaml")


def test_parameters_shapes_and_message_are_the_models(hypes):
    report = describe(hypes, agents=3, voxels=900)
    model = build_model(hypes)
    assert report.total(lambda part: part.trainable) == sum(p.numel() for p in model.parameters())
    assert report.total(lambda part: part.frozen) == 0
    shapes = {part.name: part.shape for part in report.parts}
    stages = {part.name: part.stage for part in report.parts}
    assert shapes["encoder_m1"] == (3, 32, 128, 128) and shapes["cls_head"] == (1, 2, 64, 64)
    assert [stages[name] for name in ("encoder_m1", "fusion_net", "cls_head")] == ["encode", "fuse", "head"]
    maps = {"map": torch.zeros(1, 64, 64, 64)}
    assert report.messages == {"of m1": 8 * len(encode(Message(maps)))}


def test_operations_of_a_convolution(hypes):
    small = describe(hypes, agents=1)
    head = next(part for part in small.parts if part.name == "reg_head")
    assert head.flops == 2 * 64 * 14 * 64 * 64
    assert describe(hypes, agents=4).total(lambda part: part.flops) > 3 * small.total(lambda part: part.flops)


def test_frozen_parts_are_told_apart():
    hypes = load_file(SHIPPED / "opv2v/MoreModality/HEAL/stage1/m1_pyramid.yaml")
    single = {**hypes["model"], "core_method": "heter_pyramid_single"}
    args = {key: value for key, value in single["args"].items() if key not in ("compressor", "supervise_single")}
    report = describe(shrink(hypes.replaced({**hypes, "model": {**single, "args": args}})))
    frozen = {part.name for part in report.parts if part.frozen}
    assert "pyramid_backbone" in frozen and "encoder_m1" not in frozen
    assert any("trained alone" in note for note in report.notes)


def test_every_operation_is_attributed():
    model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    trace, whole = Trace(model), FlopCounterMode(display=False)
    with trace:
        model(torch.zeros(3, 4))
    with whole:
        model(torch.zeros(3, 4))
    assert sum(part.flops for part in trace.parts()) == whole.get_total_flops() == 2 * 3 * (32 + 64 + 16)
    assert [part.shape for part in trace.parts()] == [(3, 8), (3, 2)]


@pytest.mark.parametrize("name", ["early", "late"])
def test_what_is_sent_depends_on_the_data(name):
    report = describe(load_file(SHIPPED / "sim" / f"{name}.yaml"))
    assert not report.messages and any("depends on the data" in note for note in report.notes)


def let_agents_send(work, hypes, monkeypatch):
    """An agent that sends alone does some work on its map first; all agents together, as in training, do not."""
    link = type(build_model(hypes).link)
    send = link.send

    def working(self, own, request=None):
        if own.agents == 1:
            work(own.map)
        return send(self, own, request)

    monkeypatch.setattr(link, "send", working)


@pytest.mark.parametrize("words", [lambda x: x.nonzero(), lambda x: x.sum().item(), lambda x: x[x > 0], torch.unique])
def test_a_message_whose_size_depends_on_content_is_told_as_that(hypes, monkeypatch, words):
    let_agents_send(words, hypes, monkeypatch)
    report = describe(hypes, agents=2, voxels=900)
    assert not report.messages and any("depends on the data" in note for note in report.notes)


@pytest.mark.parametrize("fault", [lambda x: x[..., :3] @ x, lambda x: x + torch.zeros(3)])
def test_a_fault_of_a_link_is_not_told_as_a_size(hypes, monkeypatch, fault):
    let_agents_send(fault, hypes, monkeypatch)
    with pytest.raises(RuntimeError):
        describe(hypes, agents=2, voxels=900)


def test_command_line(capsys):
    assert main(["-y", str(SHIPPED / "sim" / "intermediate.yaml")]) == 0
    out = capsys.readouterr().out
    assert "parameters: " in out and "message of m1: " in out and "assumed: " in out


def test_message_bits_do_not_need_content():
    real = Message({"a": torch.ones(2, 3), "b": torch.ones(5, dtype=torch.int8)}, kind="x")
    blank = Message({name: tensor.to("meta") for name, tensor in real.tensors.items()}, kind="x")
    assert message_bits(blank) == 8 * len(encode(real))


@pytest.mark.parametrize(
    ("name", "trainable", "kibibytes"),
    [
        ("opv2v/Heter_group/codebook/codebook_pyramid_fixenc_aligner_add_loss", 5_848_408, 32),
        ("dairv2x/Heter/codebook_pyramid_lidar", 314_113, 16),
        ("dairv2x/Heter/codebook_pyramid_c2c_infer", 116_960, 16),
    ],
)
def test_code_spaces_have_their_published_sizes(name, trainable, kibibytes):
    hypes = load_file(SHIPPED / f"{name}.yaml")
    report = describe(hypes.replaced({**hypes, "missing_checkpoints": "scratch"}), voxels=900)
    assert report.total(lambda part: part.trainable) == trainable
    lidar = next(bits for kind, bits in report.messages.items() if kind == "of m1")
    assert 0 < lidar / 8 - 1024 * kibibytes < 100
