"""Golden family ``codealign``: who gets which modality, and which pairs are tested (spec codealign.md 6, 7)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opencood.data.draws import Draws
from opencood.data.modality import Roster
from opencood.data.readers.opv2v import channel_file, channel_file_plus
from opencood.experiments.task_average import average_of, modality_pairs
from tests.golden.case import Case
from tests.golden.families import codealign_losses, codealign_models, codealign_parts, codealign_stages

Outputs = dict[str, Any]
_DRAWN = 200  # draws, in which a rare modality would turn up


def run(case: Case) -> Outputs:
    """Every wanted output of one case."""
    for fits, function in KINDS:
        if fits(case):
            return function(case)
    raise KeyError(f"{case.id}: no function for kind '{case.meta.raw().get('kind')}'")


def _modality_assignment(case: Case) -> Outputs:
    wanted = json.loads(case.file("expected.json").read_text())
    assert case.meta["input"]
    assignment = wanted["test_reorder"]["assignment"]
    got = {
        "train_one_group": _dealt(wanted["train_one_group"], assignment),
        "train_three_groups": _dealt(wanted["train_three_groups"], assignment),
        "val_draws_from": _validation(wanted["val_draws_from"], assignment),
        "test_mapping": {**wanted["test_mapping"], "result": _mapped(wanted["test_mapping"]["mapping_dict"])},
        "test_reorder": {
            "assignment": assignment,
            "cases": [_ordered(one, assignment) for one in wanted["test_reorder"]["cases"]],
        },
        "lidar_file": _files(wanted["lidar_file"], channel_file),
        "lidar_file_plus": _files(wanted["lidar_file_plus"], channel_file_plus),
    }
    for part in wanted:
        case.check(f"expected.json: {part}", got[part], wanted[part])
    return {}


def _task_average_pairs(case: Case) -> Outputs:
    wanted = json.loads(case.file("expected.json").read_text())
    for number, one in enumerate(wanted["cases"]):
        found = modality_pairs(one["heter_group"], one["ego"], one["backend"] or ())
        # the order inside one group may differ, says the case
        got = sorted(map(list, found))
        case.check(f"expected.json: case {number}", got, sorted(one["pairs (ego, collaborators)"]))
    average = wanted["average"]
    case.check("expected.json: average", average_of(average["per_pair_ap"]), average["eval_average.json"])
    return {}


def _dealt(wanted: Mapping[str, Any], assignment: Any) -> dict[str, Any]:
    groups = tuple(map(tuple, wanted["heter_group"]))
    roster = Roster(groups[0], (), assignment=assignment, train=True, closed=True, groups=groups)
    dealt = roster.scenarios(sorted(assignment))
    got: dict[str, Any] = {
        "heter_group": wanted["heter_group"],
        "scene_group": {scenario: groups.index(group) for scenario, group in dealt.items()},
    }
    if "allowed_modalities_seen" in wanted:
        got["allowed_modalities_seen"] = {
            scenario: sorted({_drawn(roster, scenario, assignment, k, group) for k in range(_DRAWN)})
            for scenario, group in dealt.items()
        }
    return got


def _drawn(roster: Roster, scenario: str, assignment: Any, number: int, group: tuple[str, ...] = ()) -> str:
    ids = list(assignment[scenario])
    return roster.modality(scenario, ids, number % len(ids), Draws.keyed(number), group)


def _validation(wanted: list[str], assignment: Any) -> list[str]:
    roster = Roster(tuple(wanted), (), assignment=assignment, closed=True, validation=True)
    scenario = next(iter(assignment))
    return sorted({_drawn(roster, scenario, assignment, number) for number in range(_DRAWN)})


def _mapped(mapping: Mapping[str, str]) -> dict[str, str]:
    roster = Roster((), tuple(mapping.values()), mapping)
    return {name: roster.mapped(name) for name in mapping}


def _ordered(wanted: Mapping[str, Any], assignment: Any) -> dict[str, Any]:
    mapping = wanted["mapping_dict"]
    roster = Roster(tuple(wanted["ego_modality"]), tuple(mapping.values()), mapping, assignment=assignment, closed=True)
    orders = {
        scenario: roster.order(scenario, roster.members(scenario, sorted(agents)), Draws.keyed(0))
        for scenario, agents in assignment.items()
    }
    return {**wanted, "order": orders}


def _files(wanted: Mapping[str, str], file_of: Callable[[Path, int | None], Path]) -> dict[str, str]:
    """Keys say who has how many channels: ``m4(32)``, ``m1(none)``."""
    got = {"in": wanted["in"]}
    for name in [name for name in wanted if name != "in"]:
        channels = name.partition("(")[2].rstrip(")")
        got[name] = str(file_of(Path(wanted["in"]), None if channels == "none" else int(channels)))
    return got


# What tells a kind of case -> what runs it. The first that fits.
KINDS: tuple[tuple[Callable[[Case], bool], Callable[[Case], Outputs]], ...] = (
    (lambda case: case.name == "modality_assignment", _modality_assignment),
    (lambda case: case.name == "task_average_pairs", _task_average_pairs),
    (codealign_parts.fits, codealign_parts.run),
    (codealign_models.fits, codealign_models.run),
    (codealign_losses.fits, codealign_losses.run),
    (codealign_stages.fits, codealign_stages.run),
)
