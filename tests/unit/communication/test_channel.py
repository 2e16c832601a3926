"""The channel delivers, meters, loses and narrows messages."""

import numpy as np
import pytest
import torch

from opencood.communication import Channel, Message, Meter, encode
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


def test_losses_repeat_with_their_generator():
    def pattern(seed):
        channel = Channel(drop=0.5, generator=np.random.default_rng(seed))
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


@pytest.mark.parametrize("wrong", [{"drop": 1.5}, {"drop": 0.5}, {"agents": 0}, {"precision": "float7"}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Channel(**wrong)


def test_a_meter_without_frames_reads_zero():
    assert Meter().megabits_per_frame() == 0.0
