"""The one place where a name in a YAML file becomes a component.

A component registers under a *kind* (``fusion``, ``encoder``, ``loss``...) and its published ``core_method``. Its
constructor signature is the schema of its arguments; keys that published files carry but nobody reads are listed as
``ignores``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from opencood.annotations import expected
from opencood.errors import ConfigError, nearest

T = TypeVar("T", bound=Callable[..., Any])

# Where components of a kind live: packages whose modules register themselves when imported, looked into on first use.
HOMES: dict[str, tuple[str, ...]] = {
    "yaml_parser": ("opencood.config.parsers",),
    "reader": ("opencood.data.readers",),
    "sample": ("opencood.data.samples",),
    "augmentor": ("opencood.data.augment",),
    "perturbation": ("opencood.data.perturb",),
    "preprocessor": ("opencood.geometry.preprocessors",),
    "postprocessor": ("opencood.geometry.postprocessors",),
    "encoder": ("opencood.models.encoders",),
    "camera_encoder": ("opencood.models.encoders.trunks",),
    "backbone": ("opencood.models.backbones",),
    "aligner": ("opencood.models.backbones",),
    "link": ("opencood.models.links",),
    "adapter": ("opencood.models.links",),
    "translator": ("opencood.models.links",),
    "fusion": ("opencood.models.fusion",),
    "head": ("opencood.models.heads",),
    "calibrator": ("opencood.models.heads",),
    "model": (
        "opencood.models.assemblies",
        "opencood.models.assemblies_codealign",
        "opencood.models.assemblies_unaligned",
        "opencood.models.assemblies_collab",
        "opencood.models.assemblies_variants",
        "opencood.models.assemblies_voxels",
        "opencood.models.assemblies_opencood",
        "opencood.models.assemblies_voxel_fusion",
        "opencood.models.assemblies_cameras",
        "opencood.models.assemblies_center",
        "opencood.models.assemblies_hmvit",
        "opencood.models.assemblies_rcnn",
        "opencood.models.assemblies_gencomm",
        "opencood.models.assemblies_pretraining",
        "opencood.models.assemblies_stamp",
    ),
    "loss": ("opencood.losses",),
    "scheduler": ("opencood.training.schedules",),
    "writer": ("opencood.simulation.writers",),
}


@dataclass(frozen=True)
class Entry:
    """One registered component: what is built, and which published keys it knowingly ignores."""

    kind: str
    name: str
    target: Callable[..., Any]
    ignores: frozenset[str] = field(default_factory=frozenset)

    @property
    def summary(self) -> str:
        """First line of the component's docstring."""
        return (inspect.getdoc(self.target) or "").partition("\n")[0]


class Registry:
    """Components by kind and name."""

    def __init__(self, homes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._homes = dict(homes or {})
        self._entries: dict[str, dict[str, Entry]] = {}
        self._loaded: set[str] = set()

    def register(self, kind: str, *names: str, ignores: Iterable[str] = ()) -> Callable[[T], T]:
        """Decorate a class or function so that ``kind``/``name`` builds it; several names are aliases.

        Raises:
            ValueError: the name is taken by another component.
        """

        def decorate(target: T) -> T:
            for name in names:
                taken = self._entries.setdefault(kind, {}).get(name)
                if taken is not None and taken.target is not target and not _is_reload(taken.target, target):
                    raise ValueError(f"{kind} '{name}' is already registered by {taken.target!r}")
                self._entries[kind][name] = Entry(kind, name, target, frozenset(ignores))
            return target

        return decorate

    def get(self, kind: str, name: str, where: str = "") -> Entry:
        """Return the entry, or raise a ConfigError that names the nearest valid name.

        ``where`` tells the reader which key asked (``model.args.fusion_method``).
        """
        self.load(kind)
        entry = self._entries.get(kind, {}).get(name)
        if entry is None:
            valid = self.names(kind)
            asked = f"{where}: " if where else ""
            listing = ", ".join(valid) or "none"
            raise ConfigError(f"{asked}unknown {kind} '{name}'.{nearest(name, valid)} Valid names: {listing}.")
        return entry

    def has(self, kind: str, name: str) -> bool:
        """Whether a component of that kind and name exists."""
        self.load(kind)
        return name in self._entries.get(kind, {})

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        self.load(kind)
        return sorted(self._entries.get(kind, {}))

    def kinds(self) -> list[str]:
        """All kinds that exist or have a home."""
        return sorted(set(self._homes) | set(self._entries))

    def build(
        self, kind: str, name: str, args: Mapping[str, Any] | None = None, where: str = "", **context: Any
    ) -> Any:
        """Build a component from its YAML arguments, checked against its constructor signature.

        ``args`` come from the YAML; ``context`` is what the code adds (and overrides nothing the YAML says).

        Raises:
            ConfigError: unknown name, or an argument is missing or of the wrong kind.
        Warns:
            once for each unknown argument, which is then left out.
        """
        entry = self.get(kind, name, where)
        return entry.target(**self.check_arguments(entry, args, where, **context))

    @staticmethod
    def check_arguments(
        entry: Entry, args: Mapping[str, Any] | None, where: str = "", **context: Any
    ) -> dict[str, Any]:
        """Match YAML arguments with the constructor: unknown ones warn and are dropped.

        Raises:
            ConfigError: an argument is missing, or its value is of another kind than the constructor's annotation says.
        """
        if args is not None and not isinstance(args, Mapping):
            raise ConfigError(f"{where or entry.kind}: expected a map of arguments, found {args!r}.")
        given = dict(args or {})
        parameters = inspect.signature(entry.target).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        named = {n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        place = where or f"{entry.kind} '{entry.name}'"
        if not takes_any:
            for key in [k for k in given if k not in named]:
                if key not in entry.ignores:
                    message = f"{place}: unknown key '{key}' is ignored.{nearest(key, named)}"
                    warnings.warn(message, stacklevel=3)
                del given[key]
        for key, value in given.items():
            words = expected(parameters[key].annotation, value) if key in parameters else None
            if words is not None:
                raise ConfigError(f"{place}.{key}: expected {words}, found {value!r}.")
        arguments = {k: v for k, v in context.items() if takes_any or k in named} | given
        missing = [n for n, p in parameters.items() if n in named and p.default is p.empty and n not in arguments]
        if missing:
            raise ConfigError(
                f"{place}: missing key(s) {', '.join(map(repr, missing))} of {entry.kind} '{entry.name}'."
            )
        return arguments

    def load(self, kind: str) -> None:
        """Import the home packages of a kind once, so that their components register."""
        if kind in self._loaded:
            return
        self._loaded.add(kind)
        for home in self._homes.get(kind, ()):
            _import_tree(home)


def _import_tree(name: str) -> None:
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        importlib.import_module(f"{name}.{found.name}")


def _is_reload(old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    def identity(target: Callable[..., Any]) -> tuple[Any, Any]:
        return getattr(target, "__module__", None), getattr(target, "__qualname__", None)

    return identity(old) == identity(new)


REGISTRY = Registry(HOMES)
register = REGISTRY.register
