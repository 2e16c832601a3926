"""What to do about what is missing: which download holds it."""

from __future__ import annotations

from opencood.experiments.dataset_check.look import (
    CAMERA,
    CAMERA_LABELS,
    DEPTH,
    LIDAR,
    METADATA,
    OWN_LABELS,
    VISIBILITY,
)

_OPV2V_H = "OPV2V-H (huggingface.co/datasets/yifanlu/OPV2V-H), unpacked as OPV2V_Hetero beside OPV2V"
_LINES = f"they are in OPV2V-H-LiDAR-part* of {_OPV2V_H}"
# (format, kind of data) -> where it comes from; format "" stands for all others.
_SOURCES = {
    (
        "opv2v",
        LIDAR,
    ): "unpack train.zip, validate.zip and test.zip of OPV2V again; every chunk of a split archive counts",
    ("opv2v", METADATA): "unpack the archive of this split of OPV2V again",
    ("opv2v", CAMERA): "pictures are in the same archives of OPV2V as the clouds; unpack them completely",
    ("opv2v", VISIBILITY): "bev_visibility is in the additional archive of OPV2V, unpacked as OPV2V/additional/<split>",
    ("opv2v", DEPTH): f"depth is in OPV2V-H-depth.zip of {_OPV2V_H}",
    ("opv2v", "lidar 32"): _LINES,
    ("opv2v", "lidar 16"): _LINES,
    ("v2xset", VISIBILITY): "V2XSet has none; camera labels are all objects in a fixed range instead",
    ("v2xset", DEPTH): "V2XSet has none; remove depth from input_source",
    ("v2xset", "lidar 32"): "V2XSet has full sweeps only; remove heter.lidar_channels_dict",
    ("v2xset", "lidar 16"): "V2XSet has full sweeps only; remove heter.lidar_channels_dict",
    ("v2xset", CAMERA): "pictures are in the archives of V2XSet; scenario 2021_09_09_13_20_58 has three cameras only",
    ("v2xsim", LIDAR): "unpack the sweeps of V2X-Sim 2.0, or give the key path_prefixes: {stored prefix: folder}",
    ("dairv2x", LIDAR): (
        "clouds are in cooperative-vehicle-infrastructure-{vehicle,infrastructure}-side-velodyne of DAIR-V2X-C"
    ),
    ("dairv2x", CAMERA): (
        "pictures are in cooperative-vehicle-infrastructure-{vehicle,infrastructure}-side-image of DAIR-V2X-C"
    ),
    ("dairv2x", OWN_LABELS): (
        "label/lidar holds the complemented annotation and label/lidar_backup the original one: "
        "unpack the complemented annotation of CoAlign over the data set"
    ),
    ("dairv2x", CAMERA_LABELS): (
        "label_world_backup is the original label_world, moved there when the complemented annotation of CoAlign is "
        "unpacked"
    ),
    ("v2xreal", LIDAR): "unpack the archive of this split of V2X-Real again (<stamp>.bin beside <stamp>.yaml)",
    ("v2v4real", LIDAR): "unpack the archive of this split of V2V4Real again (<stamp>.pcd beside <stamp>.yaml)",
    ("", METADATA): "repair or unpack these files again; 'on_bad_frame: skip' in the hypes leaves such frames out",
    ("", LIDAR): "unpack these files again; 'on_bad_frame: skip' in the hypes leaves such frames out",
}


def source_of(format_name: str, kind: str) -> str:
    """Where missing data of a kind come from; empty when nobody knows."""
    return _SOURCES.get((format_name, kind), _SOURCES.get(("", kind), ""))
