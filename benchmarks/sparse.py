"""Sparse convolution on one LiDAR sweep: index sets, SECOND's backbone forward and backward, beside plain ways.

The plain baseline of the index set is a dictionary of cells, that of the convolution a dense conv3d (on a crop, because
the whole volume would not fit in memory), that of the network spconv on the CPU, where it is installed.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from _timing import Row, median_seconds, versus
from torch import Tensor

from opencood.geometry.voxels import voxelize
from opencood.models.encoders.second import second
from opencood.models.sparse import layers, spconv_backend
from opencood.models.sparse.convolution import convolve
from opencood.models.sparse.index_sets import Kernel, index_set
from opencood.models.sparse.layers import SparseConvolution
from opencood.models.sparse.volume import Sites, SparseTensor
from opencood.models.sparse.weights import tap_matrices

SWEEPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "real" / "kitti_frames" / "training" / "velodyne"
RANGE = [0.0, -40.0, -3.0, 70.4, 40.0, 1.0]
VOXEL = [0.05, 0.05, 0.1]
POINTS, VOXELS, RANDOM_POINTS = 5, 60_000, 120_000
SAME = Kernel((3, 3, 3), submanifold=True)
HALVE = Kernel((3, 3, 3), (2, 2, 2), (1, 1, 1))
CROP = (40, 128, 128)


def run() -> list[Row]:
    """Rows for ``benchmarks/run.py``."""
    torch.manual_seed(0)
    inputs, source = _sweep()
    encoder = second(VOXEL, RANGE, {"num_point_features": 4}, {"num_features_in": 4, "num_features_out": 64})
    volume = SparseTensor.of(
        inputs["voxel_features"].mean(1), inputs["voxel_coords"], encoder.get_submodule(encoder.name).shape, 1
    )
    label = f"{len(volume.sites)} voxels of {source}"
    return [*_index_sets(volume, label), _convolution(volume), *_network(encoder, inputs, label)]


def _index_sets(volume: SparseTensor, label: str) -> list[Row]:
    sites = volume.sites
    fast = median_seconds(lambda: index_set(_anew(sites), SAME))
    halved = median_seconds(lambda: index_set(_anew(sites), HALVE))
    plain = median_seconds(lambda: _plain_pairs(sites.coords), runs=1, warm_up=0)
    return [
        versus(f"submanifold index set, {label}", fast, plain),
        versus("strided index set, same sites", halved, None),
    ]


def _anew(sites: Sites) -> Sites:
    return Sites(sites.coords, sites.shape, sites.agents)


def _plain_pairs(coords: Tensor) -> list[list[tuple[int, int]]]:
    cells = [tuple(cell) for cell in coords.tolist()]
    rows = {cell: row for row, cell in enumerate(cells)}
    taps = []
    for dz, dy, dx in product((-1, 0, 1), repeat=3):
        neighbours = ((rows.get((a, z + dz, y + dy, x + dx)), row) for row, (a, z, y, x) in enumerate(cells))
        taps.append([(there, row) for there, row in neighbours if there is not None])
    return taps


def _convolution(volume: SparseTensor) -> Row:
    """The densest crop of the sweep, 16 to 16 channels."""
    coords = volume.sites.coords
    blocks = (coords[:, 2] // CROP[1]) * 10_000 + coords[:, 3] // CROP[2]
    inside = blocks == blocks.mode().values
    local = coords[inside] - torch.cat([coords.new_zeros(2), coords[inside][:, 2:].amin(0)])
    features = torch.randn(len(local), 16)
    crop = SparseTensor.of(features, local, (CROP[0] + 1, CROP[1], CROP[2]), 1)
    layer = SparseConvolution(16, 16, SAME)
    with torch.no_grad():
        matrices, dense = tap_matrices(layer.weight, 16), crop.dense()
        kernel = layer.weight.permute(0, 4, 1, 2, 3).contiguous()
        fast = median_seconds(lambda: convolve(SparseTensor(crop.features, _anew(crop.sites)), matrices, SAME))
        plain = median_seconds(lambda: F.conv3d(dense, kernel, padding=1), runs=3)
    return versus(f"convolution with its index set, {len(local)} of {dense[0, 0].numel()} cells, dense", fast, plain)


def _network(encoder: Any, inputs: dict[str, Tensor], label: str) -> list[Row]:
    encoder.eval()
    with torch.no_grad():
        forward = median_seconds(lambda: encoder(inputs, 1))
        with patch.object(layers, "convolve", spconv_backend.convolve):
            other = median_seconds(lambda: encoder(inputs, 1)) if spconv_backend.available() else None
    encoder.train()
    both = median_seconds(lambda: encoder(inputs, 1).map.square().mean().backward(), runs=3)
    return [
        versus(f"SECOND backbone forward, {label} (plain: spconv)", forward, other),
        versus("SECOND backbone forward and backward, same sites", both, None),
    ]


def _sweep() -> tuple[dict[str, Tensor], str]:
    files = sorted(SWEEPS.glob("*.bin"))
    if files:
        points, source = np.fromfile(files[0], np.float32).reshape(-1, 4), "a KITTI sweep"
    else:
        points, source = _random_points(), "random points"
    voxels = voxelize(points, RANGE, VOXEL, POINTS, VOXELS)
    tensors = {name: torch.from_numpy(value) for name, value in voxels.items()}
    coords = tensors["voxel_coords"]
    return tensors | {"voxel_coords": torch.cat([coords.new_zeros(len(coords), 1), coords], dim=1)}, source


def _random_points() -> Any:
    """A wavy ground, denser near the sensor."""
    generator = np.random.default_rng(0)
    distance, angle = generator.exponential(15, RANDOM_POINTS), generator.uniform(-0.7, 0.7, RANDOM_POINTS)
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    z = -1.7 + 0.2 * np.sin(x / 3) + generator.exponential(0.3, RANDOM_POINTS)
    return np.stack([x, y, z, generator.random(RANDOM_POINTS)], axis=1).astype(np.float32)
