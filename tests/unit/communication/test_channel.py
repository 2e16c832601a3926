"""The channel delivers, meters, loses and narrows messages."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opencood.communication import Channel, ChannelSettings, Message, Meter, encode
from opencood.communication.damage import wrong_bits
from opencood.communication.message import boxes_message, points_message
from opencood.communication.precision import PRECISIONS
from opencood.errors import ConfigError

MESSAGE = Message({"map": torch.linspace(0, 1, 30).reshape(1, 2, 3, 5), "cells": torch.arange(4)})


def test_what_arrives_is_what_was_sent():
    received = Channel().transmit(MESSAGE, sender=1, receiver=0)
    assert all(torch.equal(received.tensors[n], t) for n, t in MESSAGE.tensors.items())


def test_every_message_is_metered_per_link():
    channel = Channel()
    channel.meter.start_frame()
    for sender in (1, 2, 2):
        channel.transmit(MESSAGE, sender, 0)
    size = len(encode(MESSAGE))
    assert channel.meter.links == {(0, 1, 0): size, (0, 2, 0): 2 * size}
    assert channel.meter.bytes_of_frame() == 3 * size
    channel.meter.start_frame()
    assert channel.meter.bytes_of_frame() == 0
    assert channel.meter.megabits_per_frame() == pytest.approx(3 * size * 8 / 1e6 / 2)


def test_a_lost_message_costs_what_a_delivered_one_costs():
    lossy, sound = Channel(drop=1.0), Channel()
    assert lossy.transmit(MESSAGE, 1, 0) is None
    sound.transmit(MESSAGE, 1, 0)
    assert lossy.meter.total_bytes == sound.meter.total_bytes > 0


def test_agents_that_take_no_part_send_nothing():
    channel = Channel(agents=2)
    assert channel.transmit(MESSAGE, 1, 0) is not None
    spent = channel.meter.total_bytes
    assert channel.transmit(MESSAGE, 2, 0) is None
    assert channel.meter.total_bytes == spent


def test_losses_repeat_with_their_seed():
    def pattern(seed):
        channel = Channel(drop=0.5, seed=seed)
        return [channel.transmit(MESSAGE, 1, 0) is None for _ in range(40)]

    assert pattern(3) == pattern(3)
    assert 5 < sum(pattern(3)) < 35


def test_half_precision_halves_the_bytes_and_keeps_integers():
    narrow, full = Channel(precision="float16"), Channel()
    received = narrow.transmit(MESSAGE, 1, 0)
    full.transmit(MESSAGE, 1, 0)
    assert full.meter.total_bytes - narrow.meter.total_bytes == 30 * 2
    assert received.tensors["map"].dtype == torch.float32
    assert torch.allclose(received.tensors["map"], MESSAGE.tensors["map"], atol=1e-3)
    assert torch.equal(received.tensors["cells"], MESSAGE.tensors["cells"])


@pytest.mark.parametrize(
    "wrong", [{"drop": 1.5}, {"bit_error": -0.1}, {"agents": 0}, {"precision": "float7"}, {"budget": 0}, {"droop": 0.1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Channel(**wrong)


def test_losses_follow_the_frame_and_the_pair_whatever_is_sent():
    def lost(message, frames):
        channel = Channel(drop=0.5)
        pattern = {}
        for frame in frames:
            channel.start_frame(frame)
            pattern[frame] = [channel.transmit(message, sender, 0) is None for sender in (1, 2, 3)]
        return pattern

    small = Message({"map": torch.ones(1, 1, 1, 1)})
    assert lost(MESSAGE, range(20)) == lost(small, range(20))
    assert lost(small, [7, 3]) == {frame: lost(small, range(20))[frame] for frame in (7, 3)}


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8), ("int16", 16)])
def test_steps_are_as_exact_as_they_say(precision, bits):
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 100.0])[None, :, None, None]
    message = Message({"map": spread * torch.randn(1, 2, 6, 5, generator=generator), "table": torch.rand(9, 3) * 50})
    narrow, full = Channel(precision=precision), Channel()
    received = narrow.transmit(message, 1, 0)
    full.transmit(message, 1, 0)
    for name, axes in (("map", (0, 2, 3)), ("table", (0,))):
        sent = message.tensors[name]
        step = (sent.amax(axes, keepdim=True) - sent.amin(axes, keepdim=True)) / (2**bits - 1)
        assert ((received.tensors[name] - sent).abs() <= step * 0.5001 + 1e-6).all()
    values = 60 + 27
    assert full.meter.total_bytes - narrow.meter.total_bytes == values * (4 - bits // 8) - narrowing_overhead(5)


def narrowing_overhead(channels):
    """Two tensors of ranges: their names, type, shape and length, and 8 bytes for each channel."""
    return channels * 8 + sum(2 + len(name) + 2 + 8 + 8 for name in ("map@", "table@"))


def test_constant_and_empty_tensors_survive_steps():
    message = Message(
        {"constant": torch.full((1, 2, 3, 3), 2.5), "none": torch.zeros(0, 4), "one": torch.tensor([0.25])}
    )
    received = Channel(precision="int8").transmit(message, 1, 0)
    for name, tensor in message.tensors.items():
        assert torch.equal(received.tensors[name], tensor)


@given(st.integers(1, 5000), st.floats(1e-4, 0.4), st.integers(0, 10**6))
def test_wrong_bits_are_sorted_distinct_places(count, error, seed):
    places = wrong_bits(count, error, np.random.default_rng(seed))
    assert (np.diff(places) > 0).all() and ((places >= 0) & (places < count)).all()


def test_wrong_bits_come_as_often_as_they_say():
    places = wrong_bits(200_000, 0.01, np.random.default_rng(0))
    assert 1800 < len(places) < 2200
    assert 9000 < np.histogram(places, 20, (0, 200_000))[0].sum() * 5 < 11000


def test_wrong_bits_change_values_within_their_range_and_words():
    codes = torch.arange(200, dtype=torch.uint8)
    message = Message({"map": torch.rand(1, 2, 8, 8), "codes": codes}, words=("codes",))
    channel, arrived = Channel(bit_error=1e-4), []
    for frame in range(60):
        channel.start_frame(frame)
        arrived.append(channel.transmit(message, 1, 0))
    heard = [m for m in arrived if m is not None]
    assert 0 < channel.meter.lost == 60 - len(heard)  # headers are hit as well
    for name, tensor in message.tensors.items():
        assert any(not torch.equal(m.tensors[name], tensor) for m in heard)
    assert all(m.tensors["map"].isfinite().all() and m.tensors["map"].max() <= 1 for m in heard)


def test_what_makes_sense_as_a_whole_arrives_whole_or_not_at_all():
    message = Message({"cells": torch.arange(500)})
    channel, heard = Channel(bit_error=1e-5), 0
    for frame in range(40):
        channel.start_frame(frame)
        arrived = channel.transmit(message, 1, 0)
        heard += arrived is not None
        assert arrived is None or torch.equal(arrived.tensors["cells"], message.tensors["cells"])
    assert 0 < heard < 40


@given(st.integers(1, 9), st.integers(1, 8), st.integers(1, 8), st.floats(0.15, 3.0), st.sampled_from(PRECISIONS))
def test_a_budget_is_kept_and_keeps_the_strongest_cells(channels, height, width, kilobytes, precision):
    level = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(height))
    channel = Channel(budget=kilobytes, precision=precision)
    channel.start_frame()
    received = channel.transmit(Message({"map": level}), 1, 0)
    assert channel.meter.bytes_of_frame() <= 1000 * kilobytes
    assert (received is None) == (channel.meter.withheld == 1)
    if received is None:
        return
    kept = received.tensors["map"]
    assert kept.shape == level.shape
    there = (kept != 0).any(dim=1)[0]
    strength = level.abs().amax(dim=1)[0]
    if not there.all() and precision == "float32":
        assert strength[there].min() >= strength[~there].max()
        assert torch.equal(kept[:, :, there], level[:, :, there])


def test_a_budget_keeps_the_most_important_entries():
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
    boxes = torch.arange(28.0).view(4, 7)
    channel = Channel(budget=0.14)
    received = channel.transmit(boxes_message(boxes, scores), 1, 0)
    assert received.tensors["scores"].tolist() == pytest.approx([0.9, 0.7])
    assert torch.equal(received.tensors["boxes"], boxes[[1, 3]])
    named = Message(
        {"cls": scores.view(1, 1, 1, 4), "reg": boxes[None]}, entries={"cls": 3, "reg": 1}, importance=scores
    )
    heard = channel.transmit(named, 1, 0).tensors
    assert torch.equal(heard["reg"][0], boxes[[1, 3]]) and torch.equal(heard["cls"].flatten(), scores[[1, 3]])
    points = torch.rand(1000, 4)
    heard = Channel(budget=4).transmit(points_message(points), 1, 0).tensors["points"]
    assert 200 < len(heard) < 250
    where = [int((points == row).all(dim=1).nonzero()[0]) for row in heard]
    assert where == sorted(where) and max(np.diff(where)) < 12  # from everywhere, in order


def test_a_message_that_cannot_be_shortened_is_not_sent():
    channel = Channel(budget=0.05)
    channel.start_frame()
    assert channel.transmit(MESSAGE, 1, 0) is None
    assert (channel.meter.bytes_of_frame(), channel.meter.withheld, channel.meter.lost) == (0, 1, 0)


def test_settings_say_what_differs_from_a_perfect_channel():
    assert ChannelSettings.of(None).changes() == {}
    assert ChannelSettings.of({"drop": 0.1, "precision": "int8"}).changes() == {"drop": 0.1, "precision": "int8"}
    with pytest.raises(ConfigError, match="Did you mean 'precision'"):
        ChannelSettings.of({"precison": "int8"})
    with pytest.raises(ConfigError, match="a map"):
        ChannelSettings.of([0.1])


def test_a_meter_without_frames_reads_zero():
    assert Meter().megabits_per_frame() == 0.0
