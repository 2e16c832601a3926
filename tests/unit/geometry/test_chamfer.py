"""The Chamfer distance in blocks against its definition, written with loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.errors import ConfigError
from opencood.geometry.chamfer import DISTANCES, chamfer, distance_function


def plain(source: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, name: str) -> tuple[torch.Tensor, ...]:
    """Both sums and both counts, cell by cell and point by point."""
    per_axis = DISTANCES[name]
    there, back, sources, targets = source.sum() * 0, source.sum() * 0, 0, 0
    for points, wanted, exists in zip(source, target, valid, strict=True):
        real = wanted[exists]
        if not len(real):
            continue
        sources, targets = sources + len(points), targets + len(real)
        there = there + sum(torch.stack([per_axis(p - t).sum() for t in real]).min() for p in points)
        back = back + sum(torch.stack([per_axis(t - p).sum() for p in points]).min() for t in real)
    return there, back, torch.tensor(max(sources, 1)), torch.tensor(max(targets, 1))


@settings(max_examples=30, deadline=None)
@given(
    cells=st.integers(0, 5),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    name=st.sampled_from(sorted(DISTANCES)),
    block=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_blocks_give_what_loops_give(cells: int, sizes: tuple[int, int], name: str, block: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(cells, sizes[0], 3, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.randn(cells, sizes[1], 3, generator=generator, dtype=torch.float64)
    valid = torch.rand(cells, sizes[1], generator=generator) < 0.6
    there, back, sources, targets = plain(source, target, valid, name)
    (wanted,) = torch.autograd.grad(there / sources + back / targets, source)
    found = chamfer(source, target, valid, name, cells_per_block=block)
    (gradient,) = torch.autograd.grad(found.source + found.target, source)
    assert torch.allclose(found.source, there / sources) and torch.allclose(found.target, back / targets)
    assert torch.allclose(gradient, wanted)


def test_without_reduction_and_with_the_weight_of_full_cells() -> None:
    source, target = torch.zeros(2, 1, 3), torch.tensor([[[1.0, 2, 3], [9, 9, 9]], [[1.0, 0, 0], [0, 0, 0]]])
    valid = torch.tensor([[True, False], [True, True]])
    each = chamfer(source, target, valid, reduction="none")
    assert each.source.tolist() == [[6.0], [0.0]] and each.target.tolist() == [[6.0, 0.0], [1.0, 0.0]]
    weighted = chamfer(source, target, valid, reduction="none", dynamic_weight=True)
    assert weighted.source.tolist() == [[3.0], [0.0]]


def test_of_equally_near_points_the_first_counts() -> None:
    target = torch.tensor([[[5.0, 0, 0], [1, 0, 0], [-1, 0, 0], [1, 0, 0]]])
    assert chamfer(torch.zeros(1, 2, 3), target, torch.ones(1, 4, dtype=torch.bool)).nearest_target.tolist() == [[1, 1]]


def test_unknown_distances_are_named() -> None:
    with pytest.raises(ConfigError, match="'l3' is none of l1, l2, smooth_l1"):
        distance_function("l3")
