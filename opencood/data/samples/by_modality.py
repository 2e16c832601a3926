"""Sections that STAMP writes for every modality instead of once (spec data.md, section 10; gencomm.md, section 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.config.tree import section
from opencood.data.modality import ego_modalities
from opencood.registry import REGISTRY

DEFAULT_PROTOCOL = "m0"


def protocol_of(hypes: Mapping[str, Any]) -> str:
    """The modality through which all others talk."""
    return str(hypes["heter"].get("protocol_modality") or DEFAULT_PROTOCOL)


def sections_of_ego(hypes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with the ego's own sections where the common post-processing is missing."""
    common = hypes.get("postprocess")
    if not hypes.get("heter") or (isinstance(common, Mapping) and "core_method" in common):
        return hypes
    names = ego_modalities(hypes["heter"].get("ego_modality", ""))
    return sections_of(hypes, names[0])


def sections_of(hypes: Mapping[str, Any], modality: str) -> Mapping[str, Any]:
    """The configuration as a modality sees it: its own ``preprocess`` and ``postprocess``, else the common ones.

    ``postprocess`` stands in the modality's setting, or under its name in the common section. A modality without
    points takes their range from its ground truth.
    """
    setting = (hypes["heter"].get("modality_setting") or {}).get(modality) or {}
    common = hypes.get("postprocess") or {}
    postprocess = setting.get("postprocess") or common.get(modality) or common
    preprocess = setting.get("preprocess") or hypes.get("preprocess")
    if preprocess is None and "gt_range" in postprocess:
        preprocess = {"cav_lidar_range": postprocess["gt_range"]}
    return {**hypes, "preprocess": preprocess, "postprocess": postprocess}


def postprocessors_by_modality(hypes: Mapping[str, Any]) -> dict[str, Any]:
    """The post-processors of the modalities whose setting has a section ``postprocess``."""
    settings = section(hypes, "heter.modality_setting")
    own = {name: section(setting, "postprocess") for name, setting in settings.items()}
    return {
        name: REGISTRY.build(
            "postprocessor",
            postprocess["core_method"],
            {"section": postprocess},
            where=f"heter.modality_setting.{name}.postprocess",
        )
        for name, postprocess in own.items()
        if "core_method" in postprocess
    }
