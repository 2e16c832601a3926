"""The table of published models, continued: CenterPoint's heads on the detectors of OpenCOOD's family.

Source: spec models.md 4.2: as the PointPillars models of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opencood.models import parts_variants
from opencood.models.assemblies_opencood import INTERMEDIATE, WHERE2COMM, intermediate_of, where2comm_of
from opencood.models.assemblies_variants import CENTER_HEADS, center_point
from opencood.models.assembly import Assembly, Part
from opencood.models.builder import register_assembly

EXPONENTIAL = tuple(
    Part("refine", part.name, parts_variants.exponential_center_decoder) if part.slot == "refine" else part
    for part in CENTER_HEADS
)
CENTER_INTERMEDIATE = center_point(
    INTERMEDIATE,
    "center_point_intermediate",
    "CenterPoint on pillars with attention at every level of its backbone; sizes are exponential.",
    EXPONENTIAL,
)
CENTER_WHERE2COMM = center_point(
    WHERE2COMM,
    "center_point_where2comm",
    "CenterPoint on pillars with Where2comm: agents send the cells they are sure of.",
)


def center_where2comm_of(row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any]) -> Assembly:
    """One scale or all of them."""
    found = where2comm_of(row, args, hypes)
    return replace(center_point(found, row.name, row.summary), link=found.link)


register_assembly(CENTER_INTERMEDIATE, intermediate_of)
register_assembly(CENTER_WHERE2COMM, center_where2comm_of)
