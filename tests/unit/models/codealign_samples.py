"""Small configurations of the detectors with code spaces, for maps of 16 channels and 16 x 16 cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS = 8
CODEBOOK = {"seg_num": 1, "dict_size": WORDS, "r": 1}
ALIGNER = {"core_method": "resnet3x3", "args": {"dim": 16, "num_of_blocks": 1}}


def translator(limits: list[float], out: int = WORDS, kind: str = "convnext", **inner: Any) -> dict[str, Any]:
    """A section of a translator from 16 channels."""
    return {
        "core_method": kind,
        "args": {
            "in_channels": 16,
            "out_channels": out,
            "in_cav_lidar_range": limits,
            "out_cav_lidar_range": limits,
            "in_feature_shape": [16, 16],
            "out_feature_shape": [16, 16],
            "submodule_args": {"num_of_blocks": 1, "dim": 8, "modality_map": ["m1", "m2"], **inner},
        },
    }


def coded_models(
    aligned: Mapping[str, Any], pyramid: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """``model.args`` of every row, for one modality m1.

    Args:
        aligned: the section of a modality.
        pyramid: the section of a pyramid.
        after: range, neck, heads.
    """
    common = {k: v for k, v in after.items() if k != "shrink_header"} | {"m1": dict(aligned)}
    fusion = {"method": "pyramidfusion", "backbone": dict(pyramid), "shrink_head": after["shrink_header"]}
    shared = common | {"aligner": ALIGNER, "codebook": CODEBOOK, "fusion": fusion}
    target = shared | {"backend_modality": ["m1"], "translator": translator(after["lidar_range"])}
    dense = target | {"translator": translator(after["lidar_range"], 16)}
    one = dict(after) | {"m1": dict(aligned), "fusion_backbone": dict(pyramid)}
    words = {"codebook": CODEBOOK, "multi_channel_compressor": True}
    block = dict(aligned) | one | words
    del block["m1"]
    mask = {"fusion_args": {"communication": {"thre": 0.005, "gaussian_smooth": {"k_size": 3, "c_sigma": 1.0}}}}
    single = {"supervise_single": True, "in_head_single": 16}
    prefix = "heter_codebook_shared_head"
    return {
        prefix: shared | {"pixel_sim": True},
        f"{prefix}_c2c": target | {"aligner_model": {"m1": ""}},
        f"{prefix}_c2c_infer": target | {"load_aligner": {"m1": ""}},
        f"{prefix}_d2d": dense,
        f"{prefix}_reorder": shared,
        f"{prefix}_reorder_c2c": target,
        f"{prefix}_reorder_c2c_film": target
        | {"translator": translator(after["lidar_range"], kind="adapterconvnextfilm", film_args=FILM)},
        "heter_pyramid_shared_head": one | single,
        "heter_codebook_pyramid_shared_head": one | single | words,
        "heter_model_shared_head": one | single | words | mask | {"fusion_method": "max"},
        "homo_collab": {"m1": block | {"fusion_method": "pyramid"}},
        "homo_collab_codebook": one | words | {"fusion_method": "pyramid"},
        "collab_w_c2c_infer": {"lidar_range": after["lidar_range"], "m1": block, "class_feature_codebook": True},
    }


FILM = {"emb_dim": 4, "modality_map": ["m1", "m2"]}
