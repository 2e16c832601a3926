"""The table of models, continued: detectors of single modalities side by side, as baselines of what aligns them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opencood.models import parts_codealign as own
from opencood.models import stages_codealign
from opencood.models.assemblies import HEADS
from opencood.models.assemblies_codealign import CROP, ELSEWHERE, ENCODED, FIT, SHARED, SHARED_ARGS
from opencood.models.assembly import FuseStage, Part, plain_link
from opencood.models.builder import register_assembly
from opencood.models.freezing import nothing_frozen
from opencood.models.fusing import NoFusion, PyramidAlone
from opencood.models.fusion.pyramid import PyramidFusion
from opencood.models.parts import modalities


def alone(slots: Any) -> FuseStage:
    """The pyramid of every agent for itself, or its map as it is."""
    net = slots["fuse"]
    return PyramidAlone(net) if isinstance(net, PyramidFusion) else NoFusion()


UNALIGNED = replace(
    SHARED,
    name="heter_backends_shared_input",
    summary="Detectors side by side: the ego's own fusion and heads read the maps of all encoders as they are.",
    parts=(
        *ENCODED,
        CROP,
        FIT,
        Part("fuse", "fusion_backbone_{b}", own.chosen_fusion),
        Part("shrink", "shrink_conv_{b}", own.chosen_shrink),
        *(Part("head", f"{head.name}_{{b}}", head.make, head.key) for head in HEADS),
    ),
    args=SHARED_ARGS - {"aligner", "codebook", "pixel_sim", "load_codebook", "codebook_path", "backend_path"}
    | {"backend"},
    ignores=ELSEWHERE,
    link=plain_link,
    freeze=nothing_frozen,
    backends=modalities,
    load=stages_codealign.load_side_by_side,
)
LATE = replace(
    UNALIGNED,
    name="heter_backends_late",
    summary="The same detectors, every agent by itself, for late fusion.",
    fuse=alone,
    collaborates=False,
    reads=frozenset(),
)

for _row in (UNALIGNED, LATE):
    register_assembly(_row)
