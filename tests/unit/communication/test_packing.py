"""Codes as bytes: the promised number of them, and nothing lost."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.communication.packing import bits_for, expand, pack, squeeze, unpack
from opencood.errors import DataError

LIGHT = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize(("words", "bits"), [(2, 1), (3, 2), (16, 4), (17, 5), (64, 6), (300, 9)])
def test_bits_are_the_ceiling_of_the_logarithm(words, bits):
    assert bits_for(words) == bits == math.ceil(math.log2(words))


@LIGHT
@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 40), st.integers(0, 2**31))
def test_packing_loses_nothing_and_takes_its_bits(bits, agents, count, seed):
    values = torch.randint(0, 2**bits, (agents, count), generator=torch.Generator().manual_seed(seed))
    packed = pack(values, bits)
    assert packed.shape == (agents, math.ceil(count * bits / 8)) and packed.dtype == torch.uint8
    assert torch.equal(unpack(packed, count, bits), values)


@LIGHT
@given(st.integers(2, 700), st.integers(1, 4), st.integers(1, 60), st.integers(0, 2**31))
def test_squeezing_loses_nothing(words, layers, cells, seed):
    values = torch.randint(0, words, (layers, cells), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(expand(squeeze(values, words) + b"\0\0", layers, cells, words), values)


def test_an_empty_scene_costs_little():
    values = torch.full((1, 64 * 64), 7)
    values[0, 100:140] = torch.arange(40) % 16
    assert len(squeeze(values, 16)) < 0.1 * pack(values, 4).numel()


def test_damaged_bytes_are_refused():
    with pytest.raises(DataError, match="damaged"):
        unpack(torch.zeros(1, 3, dtype=torch.uint8), 10, 4)
    data = squeeze(torch.arange(20)[None] % 16, 16)
    for wrong in (b"", data[:4], b"nonsense"):
        with pytest.raises(DataError, match="damaged"):
            expand(wrong, 1, 20, 16)
