"""Who carries which sensors and model: modalities of agents by the rules of HEAL, GenComm and CodeAlign.

Source: spec data.md, sections 3.3 and 3.4.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opencood.config.flavor import flavor_of, quirk
from opencood.config.tree import given
from opencood.data import files
from opencood.data.draws import Draws
from opencood.data.frame import roadside_last
from opencood.errors import ConfigError, DataError, nearest

log = logging.getLogger(__name__)

Assignment = Mapping[str, Mapping[str, str]]
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_PUBLISHED_TABLES = Path(__file__).resolve().parents[1] / "modality_assign"


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
        closed: scenarios and agents are those of the assignment, in its order; whom it does not list takes no part, nor
            does an agent whose name ``mapping`` does not know (CodeAlign, STAMP).
        groups: in training the scenarios of the assignment belong to these groups of modalities in turn, and every
            agent draws from the group of its scenario, so that groups never meet (CodeAlign).
        validation: all agents draw from ``ego_modalities`` (CodeAlign).
        apart: collaborators never draw a modality of the ego (GenComm).
        drawn: modalities are drawn, as in training, although the order is that of testing (GenComm, as published).
        pair: in testing the first agent of every scene has the first of these modalities and leads, all others have the
            second, whatever the assignment says of them (CodeAlign's pair average).
        recalls: where another agent must lead, agents that the mode of the data set left out come back, as published.
    """

    ego_modalities: tuple[str, ...]
    modalities: tuple[str, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)
    preference: Mapping[str, float] = field(default_factory=dict)
    lidar_channels: Mapping[str, int] = field(default_factory=dict)
    assignment: Assignment | None = None
    train: bool = False
    closed: bool = False
    groups: tuple[tuple[str, ...], ...] = ()
    validation: bool = False
    apart: bool = False
    drawn: bool = False
    recalls: bool = False
    pair: tuple[str, str] | None = None

    def scenarios(self, found: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the scenarios that take part, in order, each with the group it belongs to (none: empty).

        An assignment that lists none of the found scenarios belongs to other data and is left aside.
        """
        listed = self._closed_to(found)
        numbered = dict.fromkeys((self.assignment or {}) if listed else found)
        groups = self.groups or ((),)
        dealt = {name: groups[number % len(groups)] for number, name in enumerate(numbered)}
        return {name: dealt[name] for name in (listed or found)}

    def _closed_to(self, found: Sequence[str]) -> list[str]:
        if not self.closed or self.assignment is None:
            return []
        known = set(found)
        return [name for name in self.assignment if name in known]

    def members(self, scenario: str, ids: Sequence[str]) -> list[str]:
        """Return the agents of a scenario that take part; in a closed roster in the order of the assignment."""
        listed = (self.assignment or {}).get(scenario)
        if not self.closed or listed is None:
            return list(ids)
        # Training by groups draws the modalities anew, so the assigned name decides nothing.
        named = bool(self.mapping) and not (self.train and self.groups)
        return [agent for agent, name in listed.items() if agent in ids and (not named or name in self.mapping)]

    def order(self, scenario: str, ids: Sequence[str], draws: Draws, present: Sequence[str] = ()) -> list[str]:
        """Return the agents of a scenario, the ego first; ``present`` are all there are, also those left out before.

        Test: the first agent stays if the assignment gives it an ego modality; else the first one of the assignment
        that maps to an ego modality leads and the others follow, sorted as text. Training: shuffled.
        """
        if self.train:
            shuffled = list(ids)
            draws.python.shuffle(shuffled)
            return shuffled
        if self.pair:
            return list(ids)
        names = self._names(scenario, [*ids, *(present if self.recalls else ())])
        if names is None or names[ids[0]] in self.ego_modalities:
            return list(ids)
        for agent in names:
            if self.mapped(names[agent]) in self.ego_modalities:
                return [agent, *sorted(other for other in names if other != agent)]
        return list(ids)

    def modality(
        self, scenario: str, ids: Sequence[str], position: int, draws: Draws, group: Sequence[str] = ()
    ) -> str:
        """Return the modality of the agent at a position of the order, for one stamp; training draws from a group."""
        if self.pair:
            return self.pair[position > 0]
        if self.validation or (self.train and group):
            return draws.python.choice(list(self.ego_modalities if self.validation else group))
        drawn = self.train or self.drawn
        if drawn and position == 0:
            return str(draws.numpy.choice(list(self.ego_modalities)))
        names = None if drawn else self._names(scenario, ids)
        if names is None:
            weights = self._weights()
            return draws.python.choices(list(weights), weights=list(weights.values()))[0]
        return self.mapped(names[ids[position]])

    def _weights(self) -> dict[str, float]:
        """How often a collaborator draws each modality; the sum is free."""
        weights = dict(self.preference) or dict.fromkeys(self.modalities, 1 / len(self.modalities))
        if not self.apart:
            return weights
        return {name: weight for name, weight in weights.items() if name not in self.ego_modalities} or weights

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
        over the sorted agents, roadside units last.
        """
        if self.assignment is None:
            return None
        if scenario not in self.assignment:
            names = sorted(self.mapping) or sorted(self.modalities)
            return {agent: names[k % len(names)] for k, agent in enumerate(roadside_last(sorted(ids)))}
        listed = self.assignment[scenario]
        missing = [agent for agent in ids if agent not in listed]
        if missing:
            raise DataError(
                f"heter.assignment_path: scenario '{scenario}' gives no modality to agent(s) {', '.join(missing)}; "
                "add them, or remove the scenario to have all its agents assigned in turn."
            )
        return {agent: name for agent, name in listed.items() if agent in ids}


def build_roster(hypes: Mapping[str, Any], train: bool, closed: bool = False) -> Roster | None:
    """Return the roster of a configuration, or None without a ``heter`` section.

    Args:
        closed: the data set is that of the assignment (STAMP); CodeAlign files always are when they have one.

    Raises:
        ConfigError: a key is missing, or the assignment file is missing or no JSON map.
    """
    heter = given(hypes, "heter")
    if not heter:
        return None
    for key in ("ego_modality", "modality_setting"):
        if key not in heter:
            raise ConfigError(f"heter.{key}: missing.")
    modalities, leading = tuple(heter["modality_setting"]), ego_modalities(heter["ego_modality"])
    if train and not set(leading) & set(modalities):
        found = ", ".join(leading)
        raise ConfigError(f"heter.ego_modality: {found} is not in modality_setting ({', '.join(modalities)}).")
    closed = closed or flavor_of(hypes) == "codealign"
    assignment = load_assignment(hypes) if closed or not train else None
    apart = bool(hypes.get("ego_diff_cav", False))
    pair = None if train else _pair(heter)
    if not train and flavor_of(hypes) == "gencomm":
        _tell_absent(given(heter, "mapping_dict") or {}, modalities)
    return Roster(
        ego_modalities=leading,
        modalities=modalities,
        mapping={} if pair else dict(given(heter, "mapping_dict") or {}),
        preference=dict(given(heter, "cav_preference") or {}),
        lidar_channels=dict(given(heter, "lidar_channels_dict") or {}),
        assignment=assignment,
        train=train,
        closed=closed and assignment is not None,
        groups=_groups(heter) if assignment is not None else (),
        validation=bool(hypes.get("val", False)) and closed and assignment is not None and not train,
        apart=apart,
        recalls=bool(quirk(hypes, "modality_overrides_mode")),
        drawn=apart and bool(quirk(hypes, "ego_diff_cav_in_test")),
        pair=pair,
    )


def _tell_absent(mapping: Mapping[str, str], modalities: Sequence[str]) -> None:
    """Say which agents are left out of tests because no network reads them: published files map some by mistake."""
    absent = [f"{name}: {modality}" for name, modality in mapping.items() if modality not in modalities]
    if absent:
        log.warning(
            "heter.mapping_dict: %s: such agents take no part, heter.modality_setting has only %s.",
            ", ".join(absent),
            ", ".join(modalities),
        )


def _pair(heter: Mapping[str, Any]) -> tuple[str, str] | None:
    """``heter.pair``: modality of the first agent, and of all others.

    Raises:
        ConfigError: it does not name two modalities of ``modality_setting``.
    """
    names = given(heter, "pair")
    if names is None:
        return None
    known = heter["modality_setting"]
    if not isinstance(names, list | tuple) or len(names) != 2 or not set(names) <= set(known):
        raise ConfigError(f"heter.pair: expected two of the modalities {', '.join(known)}, found {names}.")
    return str(names[0]), str(names[1])


def _groups(heter: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The groups of ``heter.heter_group``, without modalities that ``mapping_dict`` filters out.

    Raises:
        ConfigError: it is no list of lists of names, or nothing of a group is left.
    """
    written = given(heter, "heter_group") or ()
    if not all(isinstance(group, list | tuple) for group in written):
        raise ConfigError(f"heter.heter_group: expected a list of groups such as [[m1, m2], [m3]], found {written}.")
    mapping = given(heter, "mapping_dict") or {}
    groups = tuple(tuple(str(name) for name in group if not mapping or name in mapping) for group in written)
    for group, names in zip(groups, written, strict=True):
        if not group:
            raise ConfigError(f"heter.heter_group: nothing of the group {list(names)} is a key of mapping_dict.")
    return groups


def ego_modalities(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names in ``heter.ego_modality``, a list or a text such as ``m1&m2``."""
    names = value.split("&") if isinstance(value, str) else value
    return tuple(str(name).strip() for name in names)


def load_assignment(hypes: Mapping[str, Any]) -> Assignment | None:
    """Return the assignment: ``modality_assignment`` of the hypes, else the file ``heter.assignment_path``, else None.

    A relative path is looked up in the working directory, beside the installed package, beside the hypes file, then by
    its name beside the split folder (simulated data bring their own) and among the published tables in
    ``opencood/modality_assign`` (published files name three folders for them).

    Raises:
        ConfigError: the file is missing or no JSON map.
    """
    if given(hypes, "modality_assignment"):
        return hypes["modality_assignment"]
    path = given(hypes["heter"], "assignment_path")
    if path is None:
        return None
    beside = Path(getattr(hypes, "path", None) or ".").parent
    split = hypes.get("validate_dir")
    folders = [Path(split).parent] if isinstance(split, str) else []
    by_name = [folder / Path(path).name for folder in (*folders, _PUBLISHED_TABLES)]
    places = [Path(path), _PACKAGE_PARENT / path, beside / path, *by_name]
    found = next((place for place in places if files.is_file(place)), None)
    if found is None:
        raise ConfigError(
            f"heter.assignment_path: no file '{path}' (looked in the working directory, in {_PACKAGE_PARENT}, "
            f"beside the hypes file, and by its name beside the split folder and in {_PUBLISHED_TABLES}); "
            "give an existing file, or null for a random assignment."
        )
    try:
        content = json.loads(files.read_bytes(found))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"heter.assignment_path: {found} is no JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(agents, dict) for agents in content.values()):
        raise ConfigError(f"heter.assignment_path: {found} must map scenarios to maps of agent and modality.")
    return content
