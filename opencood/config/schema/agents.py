"""Who takes part and what is read: modalities, sensors, samples, preprocessing. Source: spec config.md section 4."""

from __future__ import annotations

from opencood.config.kinds import (
    ANY,
    BOOL,
    BOUND,
    INT,
    LIST,
    MAP,
    MAPS,
    NOTHING_LISTED,
    PAIR,
    RANGE,
    TEXT,
    TEXTS,
    one_of,
)
from opencood.config.schema.key import REQUIRED, Key

HETER = (
    Key("assignment_path", TEXT, None, "JSON {scenario: {agent: modality}}; null: random"),
    Key("mapping_dict", MAP, REQUIRED, "name in the assignment -> modality here; not applied in training"),
    Key("ego_modality", TEXT | TEXTS, REQUIRED, "modality of the ego: m1, several as m1&m2, or a list"),
    Key("modality_setting", MAP, None, "sensor, encoder and preprocessing of each modality"),
    Key("lidar_channels_dict", MAP, {}, "{modality: 32 or 16}: read the thinned point clouds"),
    Key("cav_preference", MAP, None, "probability of each collaborator modality in training; absent: equal"),
    Key("definition_path", TEXT, None, "library of modalities (CodeAlign)"),
    Key("heter_group", LIST, None, "groups of modalities (CodeAlign)"),
    Key("pair", TEXTS, None, "testing: modality of the first agent of every scene, and of all others"),
    Key("protocol_modality", TEXT, None, "shared protocol agent (STAMP)"),
)

MODALITY = (
    Key("sensor_type", TEXT, REQUIRED, "lidar or camera (STAMP: also lidar&camera)"),
    Key("core_method", TEXT, REQUIRED, "encoder"),
    Key("preprocess", MAP, None, "its own preprocessing (LiDAR)"),
    Key("postprocess", MAP, None, "its own anchors and decoding (STAMP)"),
    Key("grid_conf", MAP, None, "BEV grid of a camera"),
    Key("data_aug_conf", MAP, None, "image size and augmentation of a camera"),
    Key("task", TEXT, "detection", "STAMP: detection or segmentation"),
)

GRID_CONF = (
    Key("xbound", BOUND, REQUIRED, "x of the BEV grid, metres"),
    Key("ybound", BOUND, REQUIRED, "y of the BEV grid, metres"),
    Key("zbound", BOUND, REQUIRED, "z of the BEV grid, metres"),
    Key("ddiscr", BOUND, REQUIRED, "[near, far, bins] of the depth, metres"),
    Key("mode", one_of("UD", "LID", "SID"), REQUIRED, "spacing of the depth bins"),
)

DATA_AUG_CONF = (
    Key("resize_lim", PAIR, REQUIRED, "range of the resize factor"),
    Key("final_dim", PAIR, REQUIRED, "[height, width] of the network's image, pixels"),
    Key("rot_lim", PAIR, REQUIRED, "range of the rotation, degrees"),
    Key("H", INT, REQUIRED, "height of the file's image"),
    Key("W", INT, REQUIRED, "width of the file's image"),
    Key("rand_flip", BOOL, REQUIRED, "mirror at random"),
    Key("bot_pct_lim", PAIR, REQUIRED, "range of the share cut off at the bottom"),
    Key("cams", TEXTS, REQUIRED, "names of the cameras"),
    Key("Ncams", INT, REQUIRED, "number of cameras"),
)

FUSION = (
    Key("core_method", TEXT, REQUIRED, "sample kind: early, late, intermediate, intermediateheter, lateheter..."),
    Key("dataset", TEXT, "opv2v", "file format: opv2v, v2xset, v2xsim, dairv2x, v2xreal, v2v4real"),
    Key("args", MAP | NOTHING_LISTED, {}, "options of the samples"),
    Key("stamp", BOOL, False, "STAMP samples"),
)

FUSION_ARGS = (
    Key(
        "proj_first",
        BOOL,
        False,
        "points are moved to the ego's frame before the encoder (absent: true in opencood, coopre, v2xreal, v2v4real)",
    ),
    Key("cur_ego_pose_flag", BOOL, True, "false: late agents project to where the ego was (OpenCOOD family)"),
    Key("clip_pc", BOOL, False, "read and never used"),
    Key("grid_conf", TEXT | MAP, None, "BEV grid of homogeneous camera models; None: not used"),
    Key("data_aug_conf", TEXT | MAP, None, "images of homogeneous camera models; None: not used"),
    Key("args", ANY, None, "ignored"),
)

PREPROCESS = (
    Key("core_method", TEXT, REQUIRED, "preprocessor"),
    Key("args", MAP, {}, "its arguments: voxel_size, max_points_per_voxel, max_voxel_train, max_voxel_test"),
    Key("cav_lidar_range", RANGE, REQUIRED, "range of the grid"),
    Key("num_class", INT, None, "number of classes (V2X-Real)"),
    Key("anchor_generator_config", MAPS, None, "a place for an anchor (V2X-Real)"),
    Key("bev_args", MAP, None, "second, coarse voxelisation of pretraining (CooPre)"),
    Key("keep_original_lidar", BOOL, False, "keep the points (CoAlign two-stage)"),
    Key("geometry_param", MAP, None, "derived by load_bev_params"),
)
