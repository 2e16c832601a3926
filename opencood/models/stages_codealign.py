"""Which checkpoint of an earlier stage gives which part of CodeAlign's detectors (spec codealign.md 4, 10)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from opencood.models.checkpoints import LoadReport
from opencood.models.context import Context
from opencood.models.parts import modalities
from opencood.models.transfers import Transfer, transfer

Reports = Mapping[Transfer, LoadReport]

# Two generations of checkpoints call the same parts by two names.
CODEBOOK = ("codebook", "multi_channel_compressor")
FUSION = ("fusion_backbone", "pyramid_backbone")
SAME_NAME = ("cls_head", "reg_head", "dir_head", "shrink_conv")
ARGS = "model.args"


def load_code_space(detector: nn.Module, ctx: Context, train_flag: bool) -> Reports:
    """Stages 0 and 1: encoders with ``fix_encoder``, the backend with ``fix_backend``, ``codebook_path``.

    ``join_code_space`` means all three. Nothing is read when the detector is not built for training.
    """
    args = ctx.args
    joins = bool(args.get("join_code_space"))
    transfers: list[Transfer] = []
    if args.get("fix_encoder") or joins:
        transfers += _encoders(args, strict=False)
    if args.get("fix_backend") or joins:
        transfers += _shared_backend(args)
    if (args.get("load_codebook") or joins) and args.get("codebook_path"):
        transfers.append(Transfer(args["codebook_path"], f"{ARGS}.codebook_path", "codebook", CODEBOOK))
    return transfer(detector, transfers if train_flag else [], ctx.hypes)


def load_side_by_side(detector: nn.Module, ctx: Context, train_flag: bool) -> Reports:
    """Detectors side by side: encoders, and with ``backend`` the fusion, neck and heads of every modality."""
    transfers = list(_encoders(ctx.args))
    for m, path in (ctx.args.get("backend") or {}).items():
        for name in (FUSION[0], *SAME_NAME) if path else ():
            theirs = FUSION if name == FUSION[0] else (name,)
            transfers.append(Transfer(path, f"{ARGS}.backend.{m}", f"{name}_{m}", theirs))
    return transfer(detector, transfers, ctx.hypes)


def load_translation(detector: nn.Module, ctx: Context, train_flag: bool) -> Reports:
    """Stage 2: encoders, aligners of ``aligner_model``, backends, the source code space, a trained translator."""
    args = ctx.args
    transfers = [*_encoders(args), *_aligners(args, "aligner_model"), *_backends(args)]
    transfers += _one(args, "codebook_model", "ego_codebook", CODEBOOK)
    if train_flag and args.get("only_train_embedding"):
        transfers += _trained_translator(args, "translator_path", "translator.translator")
    return transfer(detector, transfers, ctx.hypes)


def load_deployment(detector: nn.Module, ctx: Context, train_flag: bool) -> Reports:
    """Deployment: encoders, aligners of ``load_aligner``, a translator per sender, backends."""
    args = ctx.args
    transfers = [*_encoders(args), *_aligners(args, "load_aligner"), *_backends(args)]
    transfers += _one(args, "ego_group_model", "ego_codebook", CODEBOOK)
    for m, path in (args.get("load_translator") or {}).items():
        if path:
            transfers.append(Transfer(path, f"{ARGS}.load_translator.{m}", f"translator_{m}", ("translator",)))
    return transfer(detector, transfers, ctx.hypes)


def load_dense(detector: nn.Module, ctx: Context, train_flag: bool) -> Reports:
    """The ablation without words: aligners and the source code space come from ``ego_group_model``."""
    args = ctx.args
    transfers = [*_encoders(args), *_backends(args), *_one(args, "ego_group_model", "ego_codebook", CODEBOOK)]
    for m in modalities(args):
        transfers += _one(args, "ego_group_model", f"aligner_{m}", (f"aligner_{m}",))
    return transfer(detector, transfers, ctx.hypes)


def load_reordered_translation(detector: nn.Module, ctx: Context, train_flag: bool) -> Reports:
    """The ablations that translate before padding: a modality's ``model_path`` gives its aligner too."""
    args = ctx.args
    transfers = [*_encoders(args, also=("aligner",)), *_backends(args)]
    if train_flag and args.get("only_train_embedding"):
        transfers += _trained_translator(args, "translator_path", "translator.translator")
        transfers += _trained_translator(args, "emb_path", "translator.adapter")
    return transfer(detector, transfers, ctx.hypes)


def _encoders(args: Mapping[str, Any], strict: bool = True, also: tuple[str, ...] = ()) -> Iterator[Transfer]:
    for m in modalities(args):
        for part in ("encoder", "backbone", *also):
            if args[m].get("model_path"):
                name = f"{part}_{m}"
                yield Transfer(args[m]["model_path"], f"{ARGS}.{m}.model_path", name, (name,), strict)


def _shared_backend(args: Mapping[str, Any]) -> Iterator[Transfer]:
    """Of ``backend_path``, or of the modality that is listed last."""
    m = modalities(args)[-1]
    path, where = args.get("backend_path"), f"{ARGS}.backend_path"
    if not path:
        path, where = args[m].get("model_path"), f"{ARGS}.{m}.model_path"
        if path and len(modalities(args)) > 1:
            warnings.warn(
                f"{ARGS}.fix_backend: the backend is taken from {where}, the modality listed last; name another file "
                "with backend_path.",
                stacklevel=2,
            )
    if path:
        for ours, theirs in (("fusion_backbone", FUSION), *((name, (name,)) for name in SAME_NAME)):
            yield Transfer(path, where, ours, (*theirs, *(f"{name}_{m}" for name in theirs)))


def _backends(args: Mapping[str, Any]) -> Iterator[Transfer]:
    for m, path in (args.get("backend") or {}).items():
        parts = (("codebook", CODEBOOK), ("fusion", FUSION), *((name, (name,)) for name in SAME_NAME))
        for ours, theirs in parts if path else ():
            yield Transfer(path, f"{ARGS}.backend.{m}", f"backend_models.{m}.{ours}", theirs)


def _aligners(args: Mapping[str, Any], key: str) -> Iterator[Transfer]:
    for m, path in (args.get(key) or {}).items():
        if path:
            yield Transfer(path, f"{ARGS}.{key}.{m}", f"aligner_{m}", (f"aligner_{m}",))


def _one(args: Mapping[str, Any], key: str, ours: str, theirs: tuple[str, ...]) -> list[Transfer]:
    return [Transfer(args[key], f"{ARGS}.{key}", ours, theirs)] if args.get(key) else []


def _trained_translator(args: Mapping[str, Any], key: str, ours: str) -> list[Transfer]:
    """All but the table of targets, which is what is trained."""
    if not args.get(key):
        return []
    return [Transfer(args[key], f"{ARGS}.{key}", ours, (ours,), strict=False, without=f"{ours}.emb_table")]
