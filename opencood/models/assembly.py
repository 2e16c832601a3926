"""The vocabulary of detectors: parts in slots, put together by a table row. See docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from opencood.models.context import Context
from opencood.models.freezing import Freeze, nothing_frozen
from opencood.models.scene import SceneFeatures

# In the order a frame passes them.
SLOTS = ("encode", "own_head", "link", "levels", "fuse", "shrink", "head", "refine")
Slot = Literal["encode", "own_head", "link", "levels", "fuse", "shrink", "head", "refine"]
FuseStage = Callable[[SceneFeatures], SceneFeatures]


@dataclass(frozen=True)
class Part:
    """One module of a detector.

    Attributes:
        slot: the stage it works in.
        name: template of its published name in the state dict. ``{m}`` makes one part per modality, ``{pyramid}`` is
            what the flavor calls the pyramid; an empty name puts the module's children at the top by their own names.
        make: builds it, or returns None when the YAML does without it.
        key: for heads, the published output.
    """

    slot: Slot
    name: str
    make: Callable[[Context], nn.Module | None]
    key: str = ""

    @property
    def per_modality(self) -> bool:
        """Whether there is one per modality."""
        return "{m}" in self.name


@dataclass(frozen=True)
class Assembly:
    """One published model as a row: its parts in the order of the state dict, and how they are joined.

    Attributes:
        name: ``model.core_method``.
        summary: one line for people.
        parts: in published order; the flow is that of :data:`SLOTS`.
        fuse: joins the modules of the slots ``levels`` and ``fuse``, by slot, to the fuse stage.
        collaborates: whether agents exchange messages before fuse.
        batch_key: where an agent's sensor data are in the batch.
        args: the keys of ``model.args`` it reads, besides modalities.
        ignores: keys that published files carry although no model reads them.
        freeze: from ``model.args`` and the names of the parts to what does not train.
    """

    name: str
    summary: str
    parts: Sequence[Part]
    fuse: Callable[[Mapping[str, Any]], FuseStage]
    collaborates: bool
    batch_key: str
    args: frozenset[str]
    ignores: frozenset[str] = frozenset()
    freeze: Callable[[Mapping[str, Any], Sequence[str]], Freeze] = nothing_frozen


@dataclass(frozen=True)
class Backend:
    """What turns a scene into predictions: fuse, shrink, heads. A detector owns one, or one per modality."""

    fuse: FuseStage
    shrink: nn.Module | None
    heads: Mapping[str, nn.Module]

    def detect(self, scene: SceneFeatures) -> dict[str, Any]:
        """The published outputs of the heads for each scene (or agent) of a fused scene."""
        level = scene.map if self.shrink is None else self.shrink(scene.map)
        return {key: head(level) for key, head in self.heads.items()}
