"""Messages survive the wire to the bit, and damaged bytes are noticed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.communication import Message, decode, encode
from opencood.communication.codec import DTYPES
from opencood.communication.message import boxes_message, points_message
from opencood.errors import DataError

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    raw = np.random.default_rng(seed).integers(0, 256, size=(*shape, dtype.itemsize), dtype=np.uint8)
    if dtype is torch.bool:
        return torch.from_numpy(np.asarray(raw[..., 0] > 127))
    return torch.from_numpy(raw).reshape(-1).view(dtype).reshape(shape)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and encode(Message({"x": a})) == encode(Message({"x": b}))


# What begins with an underscore stays with the sender.
NAMES = st.text(max_size=8).filter(lambda name: not name.startswith("_"))


@settings(deadline=None)
@given(shape=shapes, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 2**32), name=NAMES)
def test_round_trip_is_bit_exact(shape, dtype, seed, name):
    sent = Message({name: random_tensor(shape, dtype, seed), "scalar": torch.tensor(3)}, kind="anything")
    received = decode(encode(sent))
    assert received.kind == sent.kind
    assert list(received.tensors) == list(sent.tensors)
    assert all(same_bits(received.tensors[n], sent.tensors[n]) for n in sent.tensors)


def test_a_view_is_sent_as_what_it_shows():
    x = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)[::2]
    assert torch.equal(decode(encode(Message({"x": x}))).tensors["x"], x)


def test_overhead_is_small():
    features = torch.zeros(1, 64, 8, 8)
    assert 0 < len(encode(Message({"map": features}))) - features.numel() * 4 < 64


@settings(deadline=None)
@given(cut=st.integers(0, 200))
def test_truncated_bytes_are_noticed(cut):
    data = encode(Message({"x": torch.arange(40.0)}))
    with pytest.raises(DataError):
        decode(data[: min(cut, len(data) - 1)])


def test_damaged_bytes_are_noticed():
    data = encode(Message({"x": torch.arange(4.0)}))
    for damaged, word in [(b"xxx" + data[3:], "marker"), (b"OCM\x09" + data[4:], "version 9"), (data + b"!", "left")]:
        with pytest.raises(DataError, match=word):
            decode(damaged)


def test_a_dtype_without_a_code_is_refused():
    with pytest.raises(ValueError, match="complex64"):
        encode(Message({"x": torch.zeros(2, dtype=torch.complex64)}))


def test_points_and_boxes_are_messages_too():
    points = np.random.default_rng(0).normal(size=(7, 4))
    assert len(encode(points_message(points))) > 7 * 4 * 4
    boxes = boxes_message(np.zeros((3, 8, 3)), np.ones(3))
    assert boxes.kind == "boxes" and boxes.tensors["boxes"].dtype == torch.float32
    with pytest.raises(ValueError, match="3 boxes but 2 scores"):
        boxes_message(np.zeros((3, 7)), np.ones(2))


def test_what_begins_with_an_underscore_is_not_sent():
    sent = Message({"map": torch.ones(2), "_own": torch.zeros(3)}, kind="anything")
    assert list(decode(encode(sent)).tensors) == ["map"]
    assert encode(sent) == encode(Message({"map": torch.ones(2)}, kind="anything"))
