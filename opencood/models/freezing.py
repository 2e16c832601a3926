"""Which parts do not train: decided once from the YAML, enforced whenever the mode changes (spec models.md 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Freeze:
    """Frozen parts by published name, and what of them leaves train mode.

    Attributes:
        parts: top-level names of the detector whose parameters have no gradient.
        still: in train mode these parts are in eval mode altogether (``all``), only their batch norms are
            (``batch_norm``: dropout stays active, as published), or nothing is (``nothing``: statistics keep moving).
        alone: parameters by full name that are the only ones with a gradient in their part.
    """

    parts: tuple[str, ...] = ()
    still: Literal["all", "batch_norm", "nothing"] = "batch_norm"
    alone: tuple[str, ...] = ()

    def enforce(self, detector: nn.Module, training: bool) -> None:
        """Take the gradient from the frozen parts, and put them into the mode they keep while ``training``."""
        for name in self.parts:
            part = detector.get_submodule(name)
            part.requires_grad_(False)
            if training and self.still == "all":
                part.eval()
            elif training and self.still == "batch_norm":
                _still_batch_norms(part)
        for name in self.alone:
            detector.get_submodule(name.partition(".")[0]).requires_grad_(False)
        for name in self.alone:
            detector.get_parameter(name).requires_grad_(True)


def nothing_frozen(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """Everything trains."""
    return Freeze()


def for_compressor(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """With a ``compressor`` everything else is frozen and in eval mode."""
    return all_but("compressor", names) if args.get("compressor") else Freeze()


def for_alignment(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """Backward alignment: the collaboration is frozen, with ``fix_encoder`` what is before the aligner too."""
    moving = ("aligner_",) if args.get("fix_encoder") else ("aligner_", "encoder_", "backbone_")
    return Freeze(tuple(name for name in names if not name.startswith(moving)))


def for_fixed_backbone(args: Mapping[str, Any], names: Sequence[str]) -> Freeze:
    """``backbone_fix``: only fusion and the direction head train; batch norms keep moving, as published."""
    if not args.get("backbone_fix"):
        return Freeze()
    return Freeze(tuple(name for name in names if name not in ("fusion_net", "dir_head")), still="nothing")


def all_but(trained: str, names: Iterable[str]) -> Freeze:
    """Everything frozen and in eval mode but one part."""
    return Freeze(tuple(name for name in names if name != trained), still="all")


def _still_batch_norms(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, BATCH_NORM):
            module.eval()
