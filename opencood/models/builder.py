"""From an assembly row and the YAML to a detector."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from opencood.config.flavor import flavor_of
from opencood.errors import ConfigError, nearest
from opencood.models.assembly import SLOTS, WHOLE_SCENE, Assembly, Backend, Part
from opencood.models.context import Context
from opencood.models.detector import SHARED, Detector
from opencood.models.parts import modalities
from opencood.registry import REGISTRY, register

# What the flavors call the pyramid fusion, and the outputs of the heads of homogeneous models.
PYRAMID_NAMES = {"codealign": "fusion_backbone"}
OLD_OUTPUTS = {"cls_preds": "psm", "reg_preds": "rm", "dir_preds": "dm"}
OLD_OUTPUT_FLAVORS = frozenset({"opencood", "coopre", "v2xreal", "v2v4real"})
# What our parts raise when values are of the right kind but fit no layer.
IMPOSSIBLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
Variant = Callable[[Assembly, Mapping[str, Any], Mapping[str, Any]], Assembly]


@dataclass
class Group:
    """The parts of one modality, or the shared ones, built in the order of the flow."""

    width: int | None = None
    built: dict[int, nn.Module] = field(default_factory=dict)


class Probe:
    """Parts of a detector as a function of a map, for a link; not a module, so that no part is registered twice."""

    def __init__(self, path: Iterable[Callable[[Tensor], Tensor]]) -> None:
        self._path = tuple(path)

    def __call__(self, level: Tensor) -> Tensor:
        """Run the parts one after the other."""
        for part in self._path:
            level = part(level)
        return level


class AssemblyBuilder:
    """Builds the detector of one row; this is what the registry holds under kind ``model``."""

    def __init__(self, row: Assembly, variant: Variant | None = None) -> None:
        self.row = row
        self.variant = variant
        self.__doc__ = row.summary

    def __call__(self, hypes: Mapping[str, Any], train_flag: bool = True, **args: Any) -> Detector:
        """The detector for ``model.args``; ``hypes`` gives flavor and quirks.

        Its parts are the same for any ``train_flag``, which only decides which checkpoints of ``model.args`` are read.
        """
        row = self.row if self.variant is None else self.variant(self.row, args, hypes)
        return build_detector(row, args, hypes, train_flag)


def register_assembly(row: Assembly, variant: Variant | None = None) -> None:
    """Make ``row.name`` a valid ``model.core_method``.

    Args:
        variant: from the row, ``model.args`` and the configuration to the row that is meant, where repositories or
            arguments make another network of the same name.
    """
    register("model", row.name)(AssemblyBuilder(row, variant))


def assembly_of(core_method: str) -> Assembly:
    """The row of a registered model, to derive another from with ``dataclasses.replace``.

    Raises:
        ConfigError: no row has that name.
    """
    target = REGISTRY.get("model", core_method).target
    if not isinstance(target, AssemblyBuilder):
        raise ConfigError(f"model '{core_method}' is a module of its own, not a row of the table.")
    return target.row


def build_detector(
    row: Assembly, args: Mapping[str, Any], hypes: Mapping[str, Any], train_flag: bool = True
) -> Detector:
    """Build every part of a row and join them.

    Raises:
        ConfigError: a key is missing or wrong, or the parts do not fit each other.
        CheckpointError: a checkpoint that ``model.args`` names is missing or does not fit.
    """
    _warn_about_unknown_keys(row, args)
    args = row.arrange(args)
    names = modalities(args) if "{m}" in row.batch_key else [SHARED]
    if not names:
        raise ConfigError(f"model.args: {row.name} needs at least one modality section (m1, m2, ...).")
    ctx = Context(hypes, args)
    extent = ctx.extent if row.collaborates and row.frame == "own" else None
    groups = {m: _build(row.parts, Context(hypes, args, m), "m") for m in names if m != SHARED}
    shared_ctx = ctx.carrying(_common_width(groups))
    groups[SHARED] = _build(row.parts, shared_ctx, "")
    backends = {b: _build(row.parts, shared_ctx, "b") for b in (row.backends(args) if row.backends else ())}
    detector = _join(row, names, groups, backends, extent, _output_names(row, hypes))
    detector.drops = frozenset(row.drops(args)) if row.drops else None
    pyramid = PYRAMID_NAMES.get(flavor_of(hypes), "pyramid_backbone")
    detector.nameless = _nameless(row.parts, groups)
    _register_parts(detector, row.parts, groups, backends, pyramid)
    detector.link.bind({name: _probe(detector, row, path) for name, path in row.probes.items()})
    detector.freeze = row.freeze(args, [name for name, _ in detector.named_children()])
    if row.load is not None:
        detector.note_transfers(row.load(detector, ctx, train_flag))
    return detector.train()


def _build(parts: Iterable[Part], ctx: Context, per: str) -> Group:
    """Build the parts that are made per modality (m), per backend (b) or once, each told how many channels arrive."""
    group = Group()
    mine = [(i, part) for i, part in enumerate(parts) if part.per == per]
    for i, part in sorted(mine, key=lambda item: SLOTS.index(item[1].slot)):
        module = _make(part, ctx)
        if module is None:
            continue
        group.built[i] = module
        if part.slot not in ("own_head", "head"):
            width = getattr(module, "out_channels", ctx.width)
            ctx = ctx.carrying(width, getattr(module, "level_channels", None))
    group.width = ctx.width
    return group


def _make(part: Part, ctx: Context) -> nn.Module | None:
    try:
        return part.make(ctx)
    except IMPOSSIBLE as error:
        frames = list(traceback.walk_tb(error.__traceback__))
        if any(frame.f_globals["__name__"].partition(".")[0] not in ("opencood", "torch") for frame, _ in frames):
            raise  # a user's own part keeps its trace
        frame, line = frames[-1]
        place = f"{frame.f_globals['__name__']}, line {line}"
        raise ConfigError(
            f"{ctx.where()}: these values make no {part.name.format(m=ctx.modality, b='', pyramid='') or part.slot} "
            f"({type(error).__name__}: {error}; {place})."
        ) from error


def _common_width(groups: Mapping[str, Group]) -> int | None:
    widths = {m: group.width for m, group in groups.items()}
    known = {width for width in widths.values() if width is not None}
    if len(known) > 1:
        told = ", ".join(f"{m} gives {width}" for m, width in widths.items())
        # A published file is like this: it trains as long as no batch holds both modalities.
        warnings.warn(
            f"model.args: the modalities should give maps of one width, but {told} channels: a batch with both fails.",
            stacklevel=2,
        )
        return None
    return next(iter(known), None)


def _join(
    row: Assembly,
    names: list[str],
    groups: Mapping[str, Group],
    backends: Mapping[str, Group],
    extent: tuple[float, float] | None,
    outputs: Mapping[str, str],
) -> Detector:
    """Say who does what."""

    def of(slot: str, group: Group) -> dict[int, nn.Module]:
        return {i: module for i, module in group.built.items() if row.parts[i].slot == slot}

    def only(slot: str, group: Group) -> nn.Module | None:
        return next(iter(of(slot, group).values()), None)

    def heads(slot: str, group: Group) -> dict[str, nn.Module]:
        keys = {i: row.parts[i].key or f"{WHOLE_SCENE}{i}" for i in of(slot, group)}
        return {outputs.get(keys[i], keys[i]): module for i, module in of(slot, group).items()}

    def own_or_shared(slot: str, group: Group) -> nn.Module | None:
        """The part of a modality's own backend, or the one all backends share."""
        own = only(slot, group)
        return only(slot, groups[SHARED]) if own is None else own

    def backend(group: Group) -> Backend:
        used = {slot: module for slot in ("levels", "fuse") if (module := own_or_shared(slot, group)) is not None}
        return Backend(row.fuse(used), own_or_shared("shrink", group), heads("head", group), row.feature_key)

    owners = {name: group for name, group in {**groups, **backends}.items() if heads("head", group)}
    of_link = [(m, i, part) for m, group in groups.items() for i, part in of("link", group).items()]
    of_link += [(b, i, part) for b, group in backends.items() for i, part in of("link", group).items()]
    return (row.detector or Detector)(
        row,
        chains={m: list(of("encode", groups[m]).values()) for m in names},
        link=row.link({row.parts[i].name.format(m=name, b=name): part for name, i, part in of_link}),
        backends={name: backend(group) for name, group in owners.items()},
        own_heads=heads("own_head", groups[SHARED]),
        extent=extent,
        refine=only("refine", groups[SHARED]),
    )


def _nameless(parts: Sequence[Part], groups: Mapping[str, Group]) -> tuple[nn.Module, ...]:
    return tuple(part for group in groups.values() for i, part in group.built.items() if not parts[i].name)


def _probe(detector: Detector, row: Assembly, path: Sequence[str]) -> Probe:
    """Parts, their children or their methods, by name; parts that this YAML does without are left out."""
    absent = {part.name for part in row.parts} - {name for name, _ in detector.named_children()}
    return Probe([attrgetter(step)(detector) for step in path if step.partition(".")[0] not in absent])


def _register_parts(
    detector: Detector,
    parts: Iterable[Part],
    groups: Mapping[str, Group],
    backends: Mapping[str, Group],
    pyramid: str,
) -> None:
    """Give every part its published name, in published order: runs of parts go modality by modality (or backend)."""
    owners = {"m": {m: group for m, group in groups.items() if m != SHARED}, "b": backends}
    owners[""] = {SHARED: groups[SHARED]}
    for per, run in groupby(enumerate(parts), key=lambda item: item[1].per):
        members = list(run)
        for name, group in owners[per].items():
            for i, part in members:
                if i in group.built:
                    _register(detector, part.name.format(m=name, b=name, pyramid=pyramid), group.built[i])


def _register(detector: Detector, name: str, module: nn.Module) -> None:
    """Put a part under its name, in which dots make containers; without a name its children come to the top."""
    if not name:
        for child_name, child in module.named_children():
            detector.add_module(child_name, child)
        return
    *containers, leaf = name.split(".")
    parent: nn.Module = detector
    for container in containers:
        if container not in dict(parent.named_children()):
            parent.add_module(container, nn.Module())
        parent = parent.get_submodule(container)
    parent.add_module(leaf, module)


def _output_names(row: Assembly, hypes: Mapping[str, Any]) -> Mapping[str, str]:
    homogeneous = "{m}" not in row.batch_key
    return OLD_OUTPUTS if homogeneous and flavor_of(hypes) in OLD_OUTPUT_FLAVORS else {}


def _warn_about_unknown_keys(row: Assembly, args: Mapping[str, Any]) -> None:
    methods = {str(args.get("fusion_method"))}
    known = row.args | row.ignores | methods | set(modalities(args))
    for key in args:
        if key not in known:
            warnings.warn(f"model.args: {row.name} does not read the key '{key}'.{nearest(key, known)}", stacklevel=4)
