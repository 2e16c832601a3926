"""Sweeps of other sensors (KITTI, nuScenes) go from the file through voxels and encoders to finite maps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from opencood.geometry.preprocessors.sparse_voxel import SpVoxelPreprocessor
from opencood.registry import REGISTRY

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real"
SWEEPS = {
    "kitti": (REAL / "kitti_frames" / "training" / "velodyne", "*.bin", 4),
    "nuscenes": (REAL / "nuscenes_frame", "*LIDAR_TOP*.bin", 5),
}
RANGE = [-51.2, -51.2, -5, 51.2, 51.2, 3]
ENCODERS = {
    "point_pillar": (
        [0.4, 0.4, 8],
        {"pillar_vfe": {"use_norm": True, "with_distance": False, "use_absolute_xyz": True, "num_filters": [16]}},
        (16, 256, 256),
    ),
    "second": (
        [0.2, 0.2, 0.2],
        {"mean_vfe": {"num_point_features": 4}, "spconv": {"num_features_in": 4, "num_features_out": 16}},
        (32, 64, 64),
    ),
}


@pytest.fixture(params=SWEEPS)
def points(request) -> np.ndarray:
    folder, pattern, columns = SWEEPS[request.param]
    found = sorted(folder.glob(pattern))
    if not found:
        pytest.skip(f"no real sweeps in {folder}")
    return np.fromfile(found[0], np.float32).reshape(-1, columns)[:, :4].copy()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_real_sweep_becomes_a_finite_map(points, name):
    voxel_size, args, shape = ENCODERS[name]
    voxelizer = SpVoxelPreprocessor(
        voxel_size=voxel_size, max_points_per_voxel=32, max_voxel_train=120000, max_voxel_test=120000,
        cav_lidar_range=RANGE, train=False,
    )  # fmt: skip
    voxels = voxelizer.collate([voxelizer.preprocess(points)])
    encoder = REGISTRY.build("encoder", name, {"voxel_size": voxel_size, "lidar_range": RANGE, **args}).eval()
    with torch.no_grad():
        level = encoder(voxels, 1)[0]
    assert tuple(level.shape) == (1, *shape)
    assert torch.isfinite(level).all()
    assert float(level.abs().sum()) > 0
