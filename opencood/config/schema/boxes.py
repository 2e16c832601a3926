"""Anchors, targets and decoding. Source: spec config.md section 4."""

from __future__ import annotations

from opencood.config.kinds import (
    BOOL,
    INT,
    LIST,
    MAP,
    MAPS,
    NUMBER,
    NUMBERS,
    PAIR,
    POSITIVE_INT,
    RANGE,
    TEXT,
    VOXEL,
    one_of,
)
from opencood.config.schema.key import REQUIRED, Key

POSTPROCESS = (
    Key("core_method", TEXT, REQUIRED, "postprocessor"),
    Key("gt_range", RANGE, None, "range of boxes in evaluation"),
    Key("cav_lidar_range", RANGE, None, "range of the anchors (CodeAlign)"),
    Key("voxel_size", VOXEL, None, "voxel of the anchors (CodeAlign, STAMP)"),
    Key("anchor_args", MAP, None, "anchor boxes"),
    Key("target_args", MAP, None, "thresholds"),
    Key("order", one_of("hwl", "lwh", "lhw"), "hwl", "order of the sizes in a box"),
    Key("max_num", POSITIVE_INT, 100, "most ground-truth boxes of a sample"),
    Key("nms_thresh", NUMBER, None, "IoU above which a box is suppressed"),
    Key("nms_per_class", BOOL, False, "suppress boxes of the same class only"),
    Key("max_box_extent", NUMBER, 6.0, "longest side of the standup box, metres; null: any"),
    Key("box_height_range", PAIR, [-3, 1], "heights of all corners, metres; null: any"),
    Key("dir_args", MAP, None, "direction head: bins and offset"),
    Key("aggregation", TEXT, None, "STAMP segmentation"),
    Key("predict_iou", BOOL, False, "IoU head (CIA-SSD)"),
    Key("geometry_param", MAP, None, "derived by load_bev_params"),
)

ANCHOR_ARGS = (
    Key("cav_lidar_range", RANGE, REQUIRED, "range of the anchor grid"),
    Key("l", NUMBER, None, "length, metres"),
    Key("w", NUMBER, None, "width, metres"),
    Key("h", NUMBER, None, "height, metres"),
    Key("r", NUMBERS, None, "yaws, degrees"),
    Key("num", POSITIVE_INT, None, "anchors per cell, as many as yaws"),
    Key("feature_stride", POSITIVE_INT, 2, "voxels per cell of the head's map"),
    Key("anchor_generator_config", MAPS, None, "anchors by class (V2X-Real)"),
    Key("res", NUMBER, None, "cell of PIXOR maps, metres"),
    Key("downsample_rate", INT, None, "stride of PIXOR maps"),
    *(Key(name, NUMBER, None, "derived: voxel size") for name in ("vw", "vh", "vd")),
    *(Key(name, INT, None, "derived: cells") for name in ("W", "H", "D")),
)

TARGET_ARGS = (
    Key("pos_threshold", NUMBER, None, "IoU from which an anchor is positive"),
    Key("neg_threshold", NUMBER, None, "IoU below which it is negative"),
    Key("score_threshold", NUMBER, REQUIRED, "detections need a higher score"),
)

DIR_ARGS = (
    Key("dir_offset", NUMBER, REQUIRED, "where the first direction bin starts, radians"),
    Key("num_bins", POSITIVE_INT, REQUIRED, "direction bins"),
    Key("anchor_yaw", NUMBERS, REQUIRED, "yaws of the anchors, degrees"),
)

ANCHOR_CLASS = (
    Key("class_name", TEXT, REQUIRED, "vehicle, pedestrian, truck"),
    Key("anchor_sizes", LIST, REQUIRED, "[[l, w, h]], metres"),
    Key("anchor_rotations", NUMBERS, REQUIRED, "yaws, radians"),
    Key("anchor_bottom_heights", NUMBERS, REQUIRED, "z of the anchors, metres"),
    Key("align_center", BOOL, False, "cell centres instead of border to border"),
    Key("feature_map_stride", POSITIVE_INT, REQUIRED, "voxels per cell"),
    Key("matched_threshold", NUMBER, REQUIRED, "IoU from which an anchor is positive"),
    Key("unmatched_threshold", NUMBER, REQUIRED, "IoU below which it is negative"),
)
