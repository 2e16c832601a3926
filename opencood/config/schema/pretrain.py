"""The section ``pretrain``: what is hidden, what is reconstructed. Source: spec coopre.md 9."""

from __future__ import annotations

from opencood.config.kinds import ANY, INT, MAP, MAPS, POSITIVE_INT, Kind, one_of
from opencood.config.parsers.context import is_number
from opencood.config.schema.key import Key

SHARE = Kind("a share from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)

PRETRAIN = (
    Key("input_agents", one_of("all", "ego"), "all", "whose points the encoder sees"),
    Key("reconstruct_agents", one_of("all", "ego", "others"), "all", "whose points are the target"),
    Key("mask", MAP, {}, "what is hidden"),
    Key(
        "masked_input", one_of("token", "drop"), "token", "hidden voxels keep their place with a token, or are removed"
    ),
    Key("target", one_of("points", "occupancy", "bev_map", "contrast"), "points", "what is predicted"),
    Key("points", MAP, {}, "target points: how many, in which unit"),
    Key("decoder", MAP, {}, "what stands between the encoder and the prediction"),
    Key("contrast", MAP, {}, "target contrast: the second view and the embedding"),
)
MASK = (
    Key("unit", one_of("bev_cell", "voxel", "pillar", "none"), "bev_cell", "what is hidden as a whole"),
    Key("of", one_of("joint", "each_agent", "ego"), "joint", "all agents alike, each by itself, or the ego alone"),
    Key("ratio", SHARE, 0.7, "share that is hidden; absent: model.args.backbone_3d.mask_ratio"),
    Key("scope", one_of("batch", "sample"), "batch", "the share holds over the batch, or in every sample"),
    Key("grid", POSITIVE_INT, 1, "side of a bev_cell in cells of the decoder's map"),
)
POINTS = (
    Key("num", POSITIVE_INT, 20, "predicted points of a cell"),
    Key(
        "normalise",
        one_of("cell", "fine"),
        "cell",
        "offsets in cells, or divided by model.args.backbone_3d.voxel_size as published",
    ),
)
DECODER = (
    Key(
        "layers", Kind("a whole number not below 0", lambda value: INT.accepts(value) and value >= 0), 1, "convolutions"
    ),
    Key("after", one_of("encoder", "backbone_2d"), "encoder", "SECOND: where it starts; backbone_2d is pretrained too"),
)
CONTRAST = (
    Key("views", MAPS, None, "augmentations of the second view, as in data_augment; absent: flip, rotation, scaling"),
    Key("width", POSITIVE_INT, 64, "channels of the embedding"),
    Key("cells", POSITIVE_INT, 2048, "cells of a batch that are compared at most"),
)
INIT_FROM = (
    Key("path", ANY, None, "checkpoint file, or run folder"),
    Key("modules", ANY, None, "parts to load: names, or {ours: theirs}; absent: all that fit"),
    Key("strict", Kind("true or false", lambda value: isinstance(value, bool)), True, "whether parts must be complete"),
)
