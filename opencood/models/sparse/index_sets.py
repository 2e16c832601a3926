"""Which cell meets which under every tap of a kernel. No loop over cells: sorted numbers are searched, tap by tap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor

from opencood.models.sparse.volume import Sites, Triple, cell_numbers

# Rows of the input and rows of the output that one tap joins; None joins every row with itself.
Pairs = tuple[Tensor, Tensor] | None
LAST = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Kernel:
    """A convolution's shape along z, y, x. A submanifold one is odd, centred, and active where its input is."""

    size: Triple
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)
    submanifold: bool = False

    @property
    def taps(self) -> int:
        """Number of cells the kernel covers."""
        return prod(self.size)

    def output_shape(self, shape: Triple) -> Triple:
        """Cells of the output's grid along z, y, x."""
        if self.submanifold:
            return shape
        sides = zip(shape, self.size, self.stride, self.padding, strict=True)
        depth, height, width = ((n + 2 * pad - k) // step + 1 for n, k, step, pad in sides)
        return depth, height, width


@dataclass(frozen=True)
class IndexSet:
    """Pairs of every tap in the order (z, y, x), none with a row twice, and the sites of the output.

    ``outputs`` is None where they are those of the input, which keep this: a cycle would keep the memory of every batch
    until the garbage collector comes.
    """

    pairs: tuple[Pairs, ...]
    outputs: Sites | None


def index_set(sites: Sites, kernel: Kernel) -> IndexSet:
    """The pairs of a kernel, worked out once per set of sites: layers on the same sites share them."""
    if kernel not in sites.cache:
        sites.cache[kernel] = _submanifold(sites, kernel) if kernel.submanifold else _strided(sites, kernel)
    return sites.cache[kernel]


def _submanifold(sites: Sites, kernel: Kernel) -> IndexSet:
    """Pairs of neighbours. Those of the taps behind the centre are those before it, the other way round."""
    depth, height, width = (side // 2 for side in kernel.size)
    numbers = cell_numbers(sites.coords, sites.shape, (depth, height, width))
    row = sites.shape[2] + width
    plane = (sites.shape[1] + height) * row
    searchable = torch.cat([numbers, numbers.new_tensor([LAST])])
    before: list[Pairs] = []
    for dz, dy in product(range(-depth, 1), range(-height, height + 1)):
        if (dz, dy) <= (0, 0):
            target = numbers + (dz * plane + dy * row - width)
            before += _along_x(searchable, target, width if (dz, dy) == (0, 0) else 2 * width + 1)
    behind = [(pair[1], pair[0]) for pair in reversed(before) if pair is not None]
    return IndexSet((*before, None, *behind), None)


def _along_x(searchable: Tensor, target: Tensor, steps: int) -> list[Pairs]:
    """Pairs of ``steps`` neighbours in x: found cells are next to each other, so one search serves all of them."""
    found: list[Pairs] = []
    place = torch.searchsorted(searchable, target)
    for step in range(steps):
        hit = searchable[place] == target + step
        rows = hit.nonzero().squeeze(1)
        found.append((place[rows], rows))
        place = place + hit
    return found


def _strided(sites: Sites, kernel: Kernel) -> IndexSet:
    """Pairs of every input with the outputs it reaches, and these outputs: all cells that some input reaches."""
    shape = kernel.output_shape(sites.shape)
    axes = [_reached(sites, kernel, shape, axis) for axis in range(3)]
    sources, numbers = [], []
    for (in_z, z), (in_y, y), (in_x, x) in product(*axes):
        rows = (in_z & in_y & in_x).nonzero().squeeze(1)
        sources.append(rows)
        numbers.append((z + y + x)[rows])
    cells, targets = torch.unique(torch.cat(numbers), return_inverse=True)
    agents = cells // prod(shape)
    coords = torch.stack([agents, *torch.unravel_index(cells - agents * prod(shape), shape)], dim=1)
    pairs = zip(sources, targets.split([len(rows) for rows in sources]), strict=True)
    return IndexSet(tuple(pairs), Sites(coords, shape, sites.agents))


def _reached(sites: Sites, kernel: Kernel, shape: Triple, axis: int) -> list[tuple[Tensor, Tensor]]:
    """For every tap of an axis: which inputs reach an output through it, and this axis' share of that cell's number."""
    cells_behind = prod(shape[axis + 1 :])
    base = sites.coords[:, 0] * prod(shape) if axis == 0 else 0
    reached = []
    for tap in range(kernel.size[axis]):
        place = sites.coords[:, axis + 1] + (kernel.padding[axis] - tap)
        cell = place.div(kernel.stride[axis], rounding_mode="floor")
        inside = (cell * kernel.stride[axis] == place) & (cell >= 0) & (cell < shape[axis])
        reached.append((inside, base + cell * cells_behind))
    return reached
