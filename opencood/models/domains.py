"""A detector on two domains at once, for domain adaptation (spec homogeneous.md 3.12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.models.detector import Detector

# What the outputs of the target domain are called.
IN_TARGET = {"source_feature": "target_feature"}


def forward_domains(detector: Detector, source: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs for a labelled batch of the source and an unlabelled one of the target domain.

    Those of the target are ``target_psm``, ``target_rm``, ``target_feature``; those of the source are as ever.
    """
    there = detector(target)
    return {**detector(source), **{IN_TARGET.get(name, f"target_{name}"): value for name, value in there.items()}}
