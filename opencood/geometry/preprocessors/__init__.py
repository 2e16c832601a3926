"""From the points of one agent to the input of an encoder: registered under kind ``preprocessor``."""

from opencood.geometry.preprocessors.bev import BevPreprocessor
from opencood.geometry.preprocessors.downsample import BasePreprocessor
from opencood.geometry.preprocessors.legacy_voxel import VoxelPreprocessor
from opencood.geometry.preprocessors.sparse_voxel import SpVoxelPreprocessor

__all__ = ["BasePreprocessor", "BevPreprocessor", "SpVoxelPreprocessor", "VoxelPreprocessor"]
