"""Tables that say which agent of which scenario is of which modality: make one for a data set, explain a given one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from opencood.data.draws import Draws
from opencood.data.frame import roadside_last
from opencood.data.modality import Assignment, Roster, build_roster, ego_modalities, load_assignment
from opencood.data.samples.settings import max_cav_of
from opencood.errors import ConfigError, DataError
from opencood.experiments.dataset_check.look import SplitReaders
from opencood.experiments.dataset_check.places import find_splits
from opencood.simulation.writers.storage import write_json

RANDOM, IN_ORDER = "random", "in_order"
_FIXED = {
    "dairv2x": "the vehicle is m1 and the roadside unit m2 (heter.mapping_dict renames them)",
    "v2xsim": "every agent is m1",
}


@dataclass(frozen=True)
class TableOptions:
    """How a table is made.

    Attributes:
        root: data set or split.
        modalities: what agents can be.
        order: ``random``: a permutation of the modalities for every scenario, dealt in turn; ``in_order``: the
            modalities as given, dealt in turn.
        shares: weight of each modality over all agents of the table; empty = dealt in turn. Random order only.
        seed: the same seed gives the same table.
        format: registered reader; None recognises it.
        splits: names of the splits that count; empty = all.
    """

    root: Path
    modalities: tuple[str, ...] = ("m1", "m2", "m3", "m4")
    order: str = RANDOM
    shares: Mapping[str, float] | None = None
    seed: int = 0
    format: str | None = None
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """One agent of a scene as testing sees it.

    Attributes:
        agent: its name.
        assigned: name in the table.
        modality: after ``mapping_dict``; empty where that has no entry.
        role: ``ego``, ``collaborator``, or why it takes no part.
        network: sensor and encoder of the modality, where a configuration says so.
    """

    agent: str
    assigned: str
    modality: str
    role: str
    network: str = ""


def make_table(options: TableOptions) -> dict[str, dict[str, str]]:
    """Return scenario -> agent -> modality; agents sorted as text, roadside units last, as in published tables.

    Raises:
        ConfigError: impossible shares, an unknown split, or a format without tables.
        DataError: the folder is missing or broken.
    """
    agents = _agents(options)
    if options.shares:
        return _by_shares(agents, options)
    if options.order not in (RANDOM, IN_ORDER):
        raise ConfigError(f"--order: '{options.order}' is none of {RANDOM}, {IN_ORDER}.")
    table = {}
    for number, (scenario, names) in enumerate(agents.items()):
        modalities = list(options.modalities)
        if options.order == RANDOM:
            modalities = np.random.default_rng([options.seed, number]).permutation(modalities).tolist()
        table[scenario] = dict(zip(names, deal(modalities, len(names)), strict=True))
    return table


def deal(modalities: Sequence[str], count: int) -> list[str]:
    """The modalities in turn, for so many agents."""
    return [modalities[k % len(modalities)] for k in range(count)]


def write_table(path: Path, table: Assignment) -> None:
    """Write a table as ``heter.assignment_path`` reads it.

    Raises:
        StorageError: the file cannot be written.
    """
    write_json(path, table)


def read_table(path: Path) -> Assignment:
    """Return a table.

    Raises:
        ConfigError: the file is missing or no table.
    """
    found = load_assignment({"heter": {"assignment_path": str(path)}})
    if found is None:
        raise ConfigError(f"{path}: name the file of a table.")
    return found


def counts(table: Assignment) -> dict[str, int]:
    """Agents of each modality."""
    return dict(sorted(Counter(name for agents in table.values() for name in agents.values()).items()))


def roster_of(
    hypes: Mapping[str, Any] | None, table: Assignment | None, mapping: Mapping[str, str], ego: str
) -> Roster:
    """Return who may be what in testing: of a configuration, or of a table with a mapping alone.

    Raises:
        ConfigError: the configuration has no ``heter`` section, or neither it nor the caller names a table.
    """
    if hypes is None:
        if table is None:
            raise ConfigError("explain: name a table, or a configuration with -y.")
        names = set(mapping.values()) or set(counts(table))
        return Roster(ego_modalities(ego or "m1"), tuple(sorted(names)), mapping, assignment=table)
    roster = build_roster(hypes, train=False)
    if roster is None:
        raise ConfigError("heter: missing; this configuration does not tell agents apart.")
    changes: dict[str, Any] = {"mapping": dict(mapping)} if mapping else {}
    changes |= {"ego_modalities": ego_modalities(ego)} if ego else {}
    changes |= {"assignment": table} if table is not None else {}
    roster = replace(roster, **changes)
    if roster.assignment is None:
        raise ConfigError("heter.assignment_path: null draws modalities at random; name a table to explain.")
    return roster


def explain(roster: Roster, scenario: str, hypes: Mapping[str, Any] | None = None) -> list[Place]:
    """Return the agents of a scene in the order of testing, all assumed present and in range.

    Raises:
        DataError: the table does not know the scenario.
    """
    table = roster.assignment or {}
    if scenario not in table:
        raise DataError(f"scenario '{scenario}' is not in the table; it has {', '.join(list(table)[:3])}, ...")
    given = table[scenario]
    # An agent whose name has no entry in mapping_dict cannot be placed by the roster: told here instead of refused.
    mapped = {agent: roster.mapping.get(name, "") if roster.mapping else name for agent, name in given.items()}
    known = {agent: name for agent, name in given.items() if mapped[agent]}
    order: list[str] = []
    if known:
        scene = replace(roster, assignment={scenario: known})
        order = scene.order(scenario, roadside_last(sorted(known)), Draws.keyed(0))
    limit = max_cav_of(hypes) if hypes is not None else len(order)
    setting = (hypes or {}).get("heter", {}).get("modality_setting", {})
    places = []
    for position, agent in enumerate([*order, *(agent for agent in given if agent not in known)]):
        modality = mapped[agent]
        role = _role(roster, modality, position, limit)
        places.append(Place(agent, given[agent], modality, role, _network(setting.get(modality), roster, modality)))
    return places


def _role(roster: Roster, modality: str, position: int, limit: int) -> str:
    if not modality:
        return "left out: no entry in mapping_dict"
    if position >= limit:
        return "left out: beyond max_cav"
    if modality not in roster.modalities:
        return "left out: not in modality_setting"
    if position:
        return "collaborator"
    return "ego" if modality in roster.ego_modalities else "ego, though its modality is not an ego modality"


def _network(setting: Mapping[str, Any] | None, roster: Roster, modality: str) -> str:
    if not setting:
        return ""
    channels = roster.lidar_channels.get(modality)
    lines = f", {channels} lines" if channels else ""
    return f"{setting.get('sensor_type', '?')}, {setting.get('core_method', '?')}{lines}"


def _agents(options: TableOptions) -> dict[str, list[str]]:
    """Sorted agents of every scenario of the data set."""
    splits = find_splits(options.root, options.format)
    unknown = set(options.splits) - {split.name for split in splits}
    if unknown:
        raise ConfigError(f"--split: no {', '.join(sorted(unknown))}; found {', '.join(s.name for s in splits)}.")
    found: dict[str, set[str]] = {}
    for split in splits:
        if split.format in _FIXED:
            raise ConfigError(f"{split.format}: needs no table: {_FIXED[split.format]}.")
        if not options.splits or split.name in options.splits:
            for scenario, names in _scenes(SplitReaders(split)):
                found.setdefault(scenario, set()).update(names)
    if not found:
        raise DataError(f"{options.root}: no scenario in it.")
    return {scenario: _ordered(names) for scenario, names in sorted(found.items())}


def _ordered(names: Iterable[str]) -> list[str]:
    """As text, roadside units behind the vehicles."""
    return sorted(names, key=lambda name: (name.startswith("-"), name))


def _scenes(readers: SplitReaders) -> Iterable[tuple[str, Iterable[str]]]:
    """Scenario and agents, from the index of a reader or else from its frames."""
    index: Any = getattr(readers.main, "index", None)
    if index is not None:
        return [(scenario, list(tracks)) for scenario, tracks in index.tree.items()]
    frames = (readers.main.frame(number) for number in range(len(readers.main)))
    return [(frame.scenario, [agent.id for agent in frame.agents]) for frame in frames]


def _by_shares(agents: Mapping[str, list[str]], options: TableOptions) -> dict[str, dict[str, str]]:
    """Shuffle so many of each modality over all agents that the shares hold to within one agent."""
    shares = dict(options.shares or {})
    if options.order != RANDOM:
        raise ConfigError("--shares: goes with --order random.")
    if min(shares.values()) < 0 or not sum(shares.values()) > 0:
        raise ConfigError(f"--shares: expected weights of at least 0 that are not all 0, found {json.dumps(shares)}.")
    total = sum(len(names) for names in agents.values())
    exact = np.array(list(shares.values())) / sum(shares.values()) * total
    numbers = np.floor(exact).astype(int)
    numbers[np.argsort(numbers - exact, kind="stable")[: total - numbers.sum()]] += 1  # largest remainders first
    pool = iter(np.random.default_rng(options.seed).permutation(np.repeat(list(shares), numbers)).tolist())
    return {scenario: {name: next(pool) for name in names} for scenario, names in agents.items()}
