"""The vocabulary of detectors: parts in slots, put together by a table row. See docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from opencood.errors import ConfigError
from opencood.models.checkpoints import LoadReport
from opencood.models.context import Context
from opencood.models.freezing import Freeze, nothing_frozen
from opencood.models.links.base import IdentityLink, Link
from opencood.models.scene import SceneFeatures

# In the order a frame passes them.
SLOTS = ("encode", "own_head", "link", "levels", "fuse", "shrink", "head", "refine")
Slot = Literal["encode", "own_head", "link", "levels", "fuse", "shrink", "head", "refine"]
# Stands before the number of a head without a key, of which a row may have several.
WHOLE_SCENE = "*"
FuseStage = Callable[[SceneFeatures], SceneFeatures]


def plain_link(links: Mapping[str, Any]) -> Link:
    """The only link there is, or the one that sends maps as they are."""
    return next(iter(links.values())) if links else IdentityLink()


@dataclass(frozen=True)
class Part:
    """One module of a detector.

    Attributes:
        slot: the stage it works in.
        name: template of its published name in the state dict. ``{m}`` makes one part per modality, ``{b}`` one per
            backend that the row names, ``{pyramid}`` is what the flavor calls the pyramid; an empty name puts the
            module's children at the top by their own names.
        make: builds it, or returns None when the YAML does without it.
        key: for heads, the published output. A head with an empty key is given the fused scene instead of its map and
            returns several outputs by name.
    """

    slot: Slot
    name: str
    make: Callable[[Context], nn.Module | None]
    key: str = ""

    @property
    def per(self) -> Literal["m", "b", ""]:
        """Whether there is one per modality (m), one per backend that the row names (b), or only one."""
        if "{m}" in self.name:
            return "m"
        return "b" if "{b}" in self.name else ""


@dataclass(frozen=True)
class Assembly:
    """One published model as a row: its parts in the order of the state dict, and how they are joined.

    Attributes:
        name: ``model.core_method``.
        summary: one line for people.
        parts: in published order; the flow is that of :data:`SLOTS`.
        fuse: joins the modules of the slots ``levels`` and ``fuse``, by slot, to the fuse stage.
        link: joins the modules of the slot ``link``, by published name, to the link; one module is its own link, none
            sends maps as they are.
        probes: functions the link is handed: for each name, the parts of the detector that are run one after the other.
        collaborates: whether agents exchange messages before fuse.
        batch_key: where an agent's sensor data are in the batch.
        args: the keys of ``model.args`` it reads, besides modalities.
        ignores: keys that published files carry although no model reads them.
        feature_key: output under which the map before the heads is published; empty when it is not.
        frame: whose coordinates the maps of a collaborative row are in: each agent's ``own``, or already the ``ego``'s,
            because its data are projected before they are encoded; nothing is warped then.
        reads: what of the batch besides sensor data and ``record_len`` it needs: ``pairwise_t_matrix``,
            ``prior_encoding``, ``lidar_pose``.
        freeze: from ``model.args`` and the names of the parts to what does not train.
        detector: class of the detector when it does not walk the four stages (training of adapters).
        backends: from ``model.args`` to the modalities that have a backend, where that is not the parts' own ``{m}``.
        arrange: from the published ``model.args`` to the layout that the parts read.
        mixed_sizes: whether the link takes maps whose size differs between modalities.
        drops: modalities whose agents are left out, from ``model.args``; None when an unknown modality is an error.
        load: puts the weights that ``model.args`` names into a new detector, told whether it is built for training, and
            gives what was loaded.
    """

    name: str
    summary: str
    parts: Sequence[Part]
    fuse: Callable[[Mapping[str, Any]], FuseStage]
    collaborates: bool
    batch_key: str
    args: frozenset[str]
    link: Callable[[Mapping[str, Any]], Link] = plain_link
    probes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    feature_key: str = ""
    frame: Literal["own", "ego"] = "own"
    reads: frozenset[str] = frozenset({"pairwise_t_matrix"})
    ignores: frozenset[str] = frozenset()
    freeze: Callable[[Mapping[str, Any], Sequence[str]], Freeze] = nothing_frozen
    detector: Callable[..., Any] | None = None
    backends: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    arrange: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    mixed_sizes: bool = False
    drops: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    load: Callable[[nn.Module, Context, bool], Mapping[Any, LoadReport]] | None = None


@dataclass(frozen=True)
class Backend:
    """What turns a scene into predictions: fuse, shrink, heads. A detector owns one, or one per modality."""

    fuse: FuseStage
    shrink: nn.Module | None
    heads: Mapping[str, nn.Module]
    feature_key: str = ""

    def detect(self, scene: SceneFeatures) -> dict[str, Any]:
        """The published outputs of the heads for each scene (or agent) of a fused scene."""
        level = scene.map if self.shrink is None else self.shrink(scene.map)
        outputs: dict[str, Any] = {self.feature_key: level} if self.feature_key else {}
        return outputs | run_heads(self.heads, scene.with_maps(level))


def run_heads(heads: Mapping[str, nn.Module], scene: SceneFeatures) -> dict[str, Any]:
    """Outputs by name: of a head with a key from the map, of one without (``*``) from the scene (see :class:`Part`).

    Raises:
        ConfigError: a head takes another number of channels than the map has.
    """
    outputs: dict[str, Any] = {}
    for key, head in heads.items():
        if isinstance(head, nn.Conv2d) and head.in_channels != scene.map.shape[1]:
            raise ConfigError(
                f"model.args: the head of '{key}' takes {head.in_channels} channels, but the map before it has "
                f"{scene.map.shape[1]}; in_head, the fusion and the shrink headers need the same width."
            )
        outputs |= head(scene) if key.startswith(WHOLE_SCENE) else {key: head(scene.map)}
    return outputs
