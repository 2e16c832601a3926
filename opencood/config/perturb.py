"""Command-line disturbances merged into the section ``perturb`` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.config.inheritance import REPLACE
from opencood.errors import ConfigError


def with_perturbations(configured: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section with what the command line asked for; a disturbance of the same name is replaced altogether.

    ``_replace_: true`` in ``asked`` forgets the configured ones.

    Raises:
        ConfigError: the configured section is no map.
    """
    if configured is not None and not isinstance(configured, Mapping):
        raise ConfigError(f"perturb: expected a map such as {{fog: {{visibility: 100}}}}, found {configured!r}.")
    kept = {} if asked.get(REPLACE) else dict(configured or {})
    return kept | {name: dict(content) for name, content in asked.items() if name != REPLACE}
