"""Modalities that have a backend may lead a scene, although a file trains others (spec codealign.md 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.config.loader import Hypes, reparse
from opencood.config.tree import section
from opencood.data.modality import ego_modalities


def with_egos_of_backends(hypes: Hypes) -> Hypes:
    """Agents of every modality that has a backend may be ego too; their definitions are read like those of the others.

    Source: spec codealign.md 7.
    """
    backends = backends_of(hypes)
    egos = list(ego_modalities(hypes["heter"]["ego_modality"]))
    if set(backends) <= set(egos):
        return hypes
    heter = {**hypes["heter"], "ego_modality": list(dict.fromkeys([*egos, *backends]))}
    return reparse(hypes.replaced({**hypes, "heter": heter}))


def backends_of(hypes: Mapping[str, Any]) -> list[str]:
    """``model.args.backend_modality``, a list or one name; empty without."""
    names = section(hypes, "model.args").get("backend_modality") or []
    return [names] if isinstance(names, str) else list(names)
