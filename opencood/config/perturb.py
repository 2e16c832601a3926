"""Command-line disturbances merged into the section ``perturb`` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.config.inheritance import REPLACE
from opencood.errors import ConfigError

CORRECTION = "box_alignment"


def perturbed(hypes: Mapping[str, Any], asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the keys of a configuration that change when the command line asks for a section ``perturb``.

    A pose correction that is asked for, or switched off (``box_alignment: false``), replaces that of ``box_align``.
    """
    if asked is None:
        return {}
    changes: dict[str, Any] = {"perturb": with_perturbations(hypes.get("perturb"), asked)}
    return changes | ({"box_align": None} if CORRECTION in asked else {})


def with_perturbations(configured: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section with what the command line asked for; a disturbance of the same name is replaced altogether.

    ``_replace_: true`` in ``asked`` forgets the configured ones, ``false`` instead of a map one of them.

    Raises:
        ConfigError: the configured section is no map.
    """
    if configured is not None and not isinstance(configured, Mapping):
        raise ConfigError(f"perturb: expected a map such as {{fog: {{visibility: 100}}}}, found {configured!r}.")
    kept = {} if asked.get(REPLACE) else dict(configured or {})
    return kept | {name: content and dict(content) for name, content in asked.items() if name != REPLACE}
