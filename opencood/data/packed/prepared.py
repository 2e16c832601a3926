"""Voxels made in advance, in a store of their own inside the packed data set.

    <packed>/prepared-<key>/     a store whose blocks have the names of the clouds

The key is that of a ``Preparation``: whatever decides on the voxels is part of it, the code that makes them included,
so that a store of another configuration or of older code is never taken for the right one.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.points import OWN_BODY, points_in_range, remove_own_body
from opencood.geometry.voxel_groups import VoxelGroups, group_points

PREFIX = "prepared-"
Range = tuple[float, ...]
_HEAD = np.dtype("<u4")  # in front of a block: number of voxels, of points, of values a point
_CODE = (
    "opencood.data.pcd",
    "opencood.geometry.points",
    "opencood.geometry.voxel_groups",
    "opencood.geometry.voxels",
    __name__,
)


@dataclass(frozen=True)
class Preparation:
    """How clouds become voxels, in words.

    Attributes:
        decode: the function that reads them.
        body: what is cut away as the agent's own body.
        crops: ranges that points are cut to before.
        range, voxel_size: the grid.
        code: digest of the code that does it.
    """

    decode: str
    body: str
    crops: str
    range: str
    voxel_size: str
    code: str

    @cached_property
    def key(self) -> str:
        """What its store is called by."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """Name of its store."""
        return PREFIX + self.key


def decoder_name(decode: Callable[..., Any]) -> str | None:
    """Name of a function that reads clouds; None where more than the file decides on its result (closures, weather)."""
    name = f"{decode.__module__}.{decode.__qualname__}" if inspect.isfunction(decode) else ""
    return name if name and "<" not in name else None


@lru_cache(maxsize=256)
def preparation(decoder: str, crops: tuple[Range, ...], limits: Range, voxel_size: Range) -> Preparation:
    """Return how the code that is here turns clouds into the voxels of a grid."""
    cut = "; ".join(map(_words, crops)) or "none"
    return Preparation(decoder, _words(OWN_BODY), cut, _words(limits), _words(voxel_size), code_digest(decoder))


def code_digest(decoder: str) -> str:
    """Digest of the source of all modules that voxels depend on."""
    modules = (decoder.rpartition(".")[0], *_CODE)
    sources = [inspect.getsource(sys.modules[name]) for name in dict.fromkeys(modules)]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()[:16]


def make_groups(
    cloud: NDArray[np.float32], crops: Sequence[Range], limits: Range, voxel_size: Range, random: Any
) -> VoxelGroups:
    """Return the voxels of a cloud (N, 4) of an agent, which is shuffled once."""
    cloud = remove_own_body(cloud.take(random.permutation(len(cloud)), axis=0))
    for crop in crops:
        cloud = points_in_range(cloud, crop)
    return group_points(cloud, limits, voxel_size)


def groups_block(groups: VoxelGroups) -> bytes:
    """Return voxels as a block."""
    head = np.array([len(groups.counts), *groups.points.shape], _HEAD)
    parts = (head, groups.coords.astype("<i4"), groups.counts.astype("<i4"), groups.points.astype("<f4"))
    return b"".join(part.tobytes() for part in parts)


def groups_of(block: memoryview) -> VoxelGroups:
    """Return the voxels of a block, which are to be read only: they lie where it lies.

    Raises:
        ValueError: it is damaged.
    """
    voxels, points, columns = (int(size) for size in np.frombuffer(block, _HEAD, 3))
    values = np.frombuffer(block, "<i4", 4 * voxels, offset=12)
    coords, counts = values[: 3 * voxels].reshape(voxels, 3), values[3 * voxels :]
    cloud = np.frombuffer(block, "<f4", points * columns, offset=12 + 16 * voxels).reshape(points, columns)
    return VoxelGroups(coords, counts, cloud)


def _words(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)
