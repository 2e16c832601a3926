"""Who carries which sensors and model: modalities of agents by HEAL's rules (spec data.md, section 3.3)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opencood.data import files
from opencood.data.draws import Draws
from opencood.errors import ConfigError, DataError, nearest

log = logging.getLogger(__name__)

Assignment = Mapping[str, Mapping[str, str]]
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_PUBLISHED_TABLES = Path(__file__).resolve().parents[1] / "modality_assign"


def is_none(value: Any) -> bool:
    """Whether a YAML value means "not used": null, or the text ``None`` (spec config.md, section 1)."""
    return value is None or value == "None"


@dataclass(frozen=True)
class Roster:
    """Order and modality of the agents of heterogeneous data.

    Attributes:
        ego_modalities: an agent with one of these may be ego.
        modalities: names in ``heter.modality_setting``; agents of another modality take no part.
        mapping: names of the assignment file to modalities; empty = names are modalities; test only.
        preference: weight of each modality for collaborators; training only.
        lidar_channels: modality to number of LiDAR channels, where not the full sweep.
        assignment: scenario -> agent -> name; None = drawn at random.
        train: training draws order and modality, testing takes them from the assignment.
    """

    ego_modalities: tuple[str, ...]
    modalities: tuple[str, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)
    preference: Mapping[str, float] = field(default_factory=dict)
    lidar_channels: Mapping[str, int] = field(default_factory=dict)
    assignment: Assignment | None = None
    train: bool = False

    def order(self, scenario: str, ids: Sequence[str], draws: Draws) -> list[str]:
        """Return the agents of a scenario, the ego first.

        Test: the first agent stays if the assignment gives it an ego modality; else the first one of the assignment
        that maps to an ego modality leads and the others follow, sorted as text. Training: shuffled.
        """
        if self.train:
            shuffled = list(ids)
            draws.python.shuffle(shuffled)
            return shuffled
        names = self._names(scenario, ids)
        if names is None or names[ids[0]] in self.ego_modalities:
            return list(ids)
        for agent in names:
            if self.mapped(names[agent]) in self.ego_modalities:
                return [agent, *sorted(other for other in names if other != agent)]
        return list(ids)

    def modality(self, scenario: str, ids: Sequence[str], position: int, draws: Draws) -> str:
        """Return the modality of the agent at a position of the order, for one stamp."""
        if self.train and position == 0:
            return str(draws.numpy.choice(list(self.ego_modalities)))
        names = None if self.train else self._names(scenario, ids)
        if names is None:
            weights = self.preference or dict.fromkeys(self.modalities, 1 / len(self.modalities))
            return draws.python.choices(list(weights), weights=list(weights.values()))[0]
        return self.mapped(names[ids[position]])

    def listed(self, scenario: str) -> bool:
        """Whether the assignment names the scenario (True when there is no assignment)."""
        return not self.assignment or scenario in self.assignment

    def mapped(self, name: str) -> str:
        """Return the modality of an assigned name.

        Raises:
            ConfigError: ``mapping_dict`` has no entry for it.
        """
        if not self.mapping:
            return name
        if name not in self.mapping:
            raise ConfigError(f"heter.mapping_dict: no entry for '{name}'.{nearest(name, self.mapping)}")
        return self.mapping[name]

    def _names(self, scenario: str, ids: Sequence[str]) -> dict[str, str] | None:
        """Assigned name by agent in the assignment's own order, or None when names are drawn at random.

        A scenario that the file does not know gets the rule of the published ``_in_order`` files: the names in turn,
        over the sorted agents.
        """
        if self.assignment is None:
            return None
        if scenario not in self.assignment:
            names = sorted(self.mapping) or sorted(self.modalities)
            return {agent: names[k % len(names)] for k, agent in enumerate(sorted(ids))}
        given = self.assignment[scenario]
        missing = [agent for agent in ids if agent not in given]
        if missing:
            raise DataError(
                f"heter.assignment_path: scenario '{scenario}' gives no modality to agent(s) {', '.join(missing)}; "
                "add them, or remove the scenario to have all its agents assigned in turn."
            )
        return {agent: name for agent, name in given.items() if agent in ids}


def build_roster(hypes: Mapping[str, Any], train: bool) -> Roster | None:
    """Return the roster of a configuration, or None without a ``heter`` section.

    Raises:
        ConfigError: a key is missing, or the assignment file is missing or no JSON map.
    """
    heter = hypes.get("heter")
    if not heter:
        return None
    for key in ("ego_modality", "modality_setting"):
        if key not in heter:
            raise ConfigError(f"heter.{key}: missing.")
    modalities, leading = tuple(heter["modality_setting"]), ego_modalities(heter["ego_modality"])
    if train and not set(leading) & set(modalities):
        found = ", ".join(leading)
        raise ConfigError(f"heter.ego_modality: {found} is not in modality_setting ({', '.join(modalities)}).")
    assignment = None if train else load_assignment(hypes)
    return Roster(
        ego_modalities=leading,
        modalities=modalities,
        mapping=dict(heter.get("mapping_dict") or {}),
        preference=dict(heter.get("cav_preference") or {}),
        lidar_channels=dict(heter.get("lidar_channels_dict") or {}),
        assignment=assignment,
        train=train,
    )


def ego_modalities(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names in ``heter.ego_modality``, a list or a text such as ``m1&m2``."""
    names = value.split("&") if isinstance(value, str) else value
    return tuple(str(name).strip() for name in names)


def load_assignment(hypes: Mapping[str, Any]) -> Assignment | None:
    """Return the assignment: ``modality_assignment`` of the hypes, else the file ``heter.assignment_path``, else None.

    A relative path is looked up in the working directory, then beside the installed package, then by its name among the
    published tables in ``opencood/modality_assign`` (published files name three different folders for them).

    Raises:
        ConfigError: the file is missing or no JSON map.
    """
    if hypes.get("modality_assignment"):
        return hypes["modality_assignment"]
    path = hypes["heter"].get("assignment_path")
    if is_none(path):
        return None
    places = [Path(path), _PACKAGE_PARENT / path, _PUBLISHED_TABLES / Path(path).name]
    found = next((place for place in places if files.is_file(place)), None)
    if found is None:
        raise ConfigError(
            f"heter.assignment_path: no file '{path}' (looked in the working directory, in {_PACKAGE_PARENT} and "
            f"by its name in {_PUBLISHED_TABLES}); "
            "give an existing file, or null for a random assignment."
        )
    try:
        content = json.loads(files.read_bytes(found))
    except ValueError as error:
        raise ConfigError(f"heter.assignment_path: {found} is no JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(agents, dict) for agents in content.values()):
        raise ConfigError(f"heter.assignment_path: {found} must map scenarios to maps of agent and modality.")
    return content
