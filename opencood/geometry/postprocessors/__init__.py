"""From head maps to boxes, and from ground truth to labels: registered under kind ``postprocessor``."""

from opencood.geometry.postprocessors.bev import BevPostprocessor
from opencood.geometry.postprocessors.first_stage import CiassdPostprocessor, FpvrcnnPostprocessor
from opencood.geometry.postprocessors.multiclass import MulticlassPostprocessor
from opencood.geometry.postprocessors.segmentation import CameraBevPostprocessor
from opencood.geometry.postprocessors.uncertainty import UncertaintyVoxelPostprocessor
from opencood.geometry.postprocessors.voxel import VoxelPostprocessor

__all__ = [
    "BevPostprocessor",
    "CameraBevPostprocessor",
    "CiassdPostprocessor",
    "FpvrcnnPostprocessor",
    "MulticlassPostprocessor",
    "UncertaintyVoxelPostprocessor",
    "VoxelPostprocessor",
]
