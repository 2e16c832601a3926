"""The section ``pretrain`` as one value, which data and models both read (spec coopre.md 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from opencood.config.flavor import quirk
from opencood.config.tree import given, lookup, section
from opencood.errors import ConfigError

PRETRAINED = frozenset({"second_coopre", "masked_bev_pretrain"})
RATIO = 0.7
VIEWS: tuple[Mapping[str, Any], ...] = (
    {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]},
    {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [-3.14159265, 3.14159265]},
    {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.95, 1.05]},
)

Agents = Literal["all", "ego", "others"]


@dataclass(frozen=True)
class MaskSettings:
    """What is hidden; see ``config/schema/pretrain.py`` for the meaning of the values."""

    unit: Literal["bev_cell", "voxel", "pillar", "none"] = "bev_cell"
    of: Literal["joint", "each_agent", "ego"] = "joint"
    ratio: float = RATIO
    scope: Literal["batch", "sample"] = "batch"
    grid: int = 1


@dataclass(frozen=True)
class Pretraining:
    """How a detector is pretrained.

    Attributes:
        num_points: predicted points of a cell.
        normalise: what the offsets of target points are divided by.
        decoder_layers, decoder_after: convolutions before the prediction, and behind what they stand.
        views: augmentations that make the second view of a contrast.
        embedding_width, contrast_cells: channels of an embedding, and cells of a batch that are compared.
    """

    input_agents: Agents = "all"
    reconstruct_agents: Agents = "all"
    mask: MaskSettings = field(default_factory=MaskSettings)
    masked_input: Literal["token", "drop"] = "token"
    target: Literal["points", "occupancy", "bev_map", "contrast"] = "points"
    num_points: int = 20
    normalise: Literal["cell", "fine"] = "cell"
    decoder_layers: int = 1
    decoder_after: Literal["encoder", "backbone_2d"] = "encoder"
    views: Sequence[Mapping[str, Any]] = VIEWS
    embedding_width: int = 64
    contrast_cells: int = 2048

    @property
    def needs_owners(self) -> bool:
        """Whether it matters whose point a point is."""
        return self.mask.of != "joint" or self.input_agents != "all" or self.reconstruct_agents != "all"


def is_pretraining(hypes: Mapping[str, Any]) -> bool:
    """Whether a configuration trains without a detector, so that nothing can be detected or tested."""
    return lookup(hypes, "model.core_method") in PRETRAINED


def refuse_pretraining(hypes: Mapping[str, Any], what: str) -> None:
    """Refuse a configuration of pretraining where a detector is needed.

    Raises:
        ConfigError: so it is; ``what`` cannot be done.
    """
    if is_pretraining(hypes):
        name = lookup(hypes, "model.core_method")
        raise ConfigError(
            f"model.core_method: '{name}' pretrains an encoder and detects nothing, so {what}. Start a detector from "
            "it (finetune.py), or look at what it predicts (show_reconstruction.py)."
        )


def _given(own: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The keys that a section says something about; unknown ones were warned of when the file was checked."""
    return {key: value for key in keys if (value := given(own, key)) is not None}


def pretraining_of(hypes: Mapping[str, Any]) -> Pretraining:
    """Read ``pretrain``; what it does not say is CooPre's."""
    own = section(hypes, "pretrain")
    published = section(hypes, "model.args.backbone_3d")
    mask = {"ratio": published.get("mask_ratio", RATIO), "grid": published.get("grid", 1)}
    mask |= _given(section(own, "mask"), [entry.name for entry in fields(MaskSettings)])
    points, decoder, contrast = (section(own, name) for name in ("points", "decoder", "contrast"))
    usual_unit = "fine" if quirk(hypes, "pretraining_fine_targets") else "cell"
    plain = _given(own, ("input_agents", "reconstruct_agents", "masked_input", "target"))
    return Pretraining(
        mask=MaskSettings(**mask),
        num_points=points.get("num", 20),
        normalise=points.get("normalise", usual_unit),
        decoder_layers=decoder.get("layers", 1),
        decoder_after=decoder.get("after", "encoder"),
        views=contrast.get("views") or VIEWS,
        embedding_width=contrast.get("width", 64),
        contrast_cells=contrast.get("cells", 2048),
        **plain,
    )
