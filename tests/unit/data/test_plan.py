"""Order of agents, modalities and files: the rules that decide who is ego and what is read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opencood.data.draws import Draws
from opencood.data.frame import roadside_last
from opencood.data.index import Track
from opencood.data.modality import Roster, build_roster, ego_modalities
from opencood.data.plan import Plan, make_plan
from opencood.data.readers.opv2v import additional_files, channel_file
from opencood.data.samples.settings import max_cav_of
from opencood.errors import ConfigError, DataError
from opencood.registry import REGISTRY

STAMPS = ("000001", "000002", "000003")


def tree(*agents: str, scenario: str = "s") -> dict[str, dict[str, Track]]:
    return {scenario: {agent: Track(STAMPS, 3 * row) for row, agent in enumerate(agents)}}


def planned(*agents: str, train: bool = False, max_cav: int = 5, roster: Roster | None = None, seed: int = 0) -> Plan:
    return make_plan(tree(*agents), train=train, max_cav=max_cav, roster=roster, draws=Draws.keyed(seed))


def order(plan: Plan, index: int = 0) -> list[str]:
    return [read.agent for read in plan.frame(index).reads]


def test_ids_are_sorted_as_text_and_roadside_units_follow_the_vehicles() -> None:
    assert order(planned("641", "1045", "650")) == ["1045", "641", "650"]
    assert order(planned("2051", "-1", "311")) == ["2051", "311", "-1"]
    assert order(planned("-2", "5", "-1")) == ["5", "-1", "-2"]
    assert order(planned("-1")) == ["-1"]
    assert roadside_last(["5", "-1", "6"]) == ["5", "-1", "6"], "published: only a leading unit is moved"


def test_max_cav_cuts_and_rows_follow_the_stamps() -> None:
    plan = planned("1", "2", "3", max_cav=2)
    assert len(plan) == 3
    assert [(read.agent, read.row) for read in plan.frame(2).reads] == [("1", 2), ("2", 5)]
    with pytest.raises(IndexError):
        plan.frame(3)


def test_training_shuffles_by_the_draws_alone() -> None:
    names = [str(number) for number in range(100, 120)]
    first, again, other = (order(planned(*names, train=True, max_cav=20, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(names) != first


def test_draws_are_a_function_of_their_key() -> None:
    one, same, other = Draws.keyed(1, "frame", 7), Draws.keyed(1, "frame", 7), Draws.keyed(1, "plan", 7)
    assert one.numpy.rand() == same.numpy.rand() != other.numpy.rand()
    assert one.python.random() == same.python.random() != other.python.random()


def roster(ego: str, mapping: dict[str, str], assignment: dict[str, Any] | None, **changes: Any) -> Roster:
    return Roster(
        ego_modalities(ego), tuple(dict.fromkeys(mapping.values())), mapping, assignment=assignment, **changes
    )


ASSIGNED = {"s": {"-1": "m3", "2051": "m4", "311": "m1", "427": "m2"}}
IDENTITY = {name: name for name in ("m1", "m2", "m3", "m4")}


def test_the_first_agent_with_an_ego_modality_leads() -> None:
    ids = ("2051", "311", "427", "-1")
    assert order(planned(*ids, roster=roster("m1", IDENTITY, ASSIGNED))) == ["311", "-1", "2051", "427"]
    assert order(planned(*ids, roster=roster("m4", IDENTITY, ASSIGNED))) == ["2051", "311", "427", "-1"]
    mapped = roster("m1", {"m1": "m2", "m2": "m1", "m3": "m2", "m4": "m1"}, ASSIGNED)
    plan = planned(*ids, roster=mapped)
    assert [(read.agent, read.modality) for read in plan.frame(0).reads] == [
        ("2051", "m1"), ("-1", "m2"), ("311", "m2"), ("427", "m1"),
    ]  # fmt: skip


def test_ego_modalities_are_exact_names() -> None:
    assignment = {"s": {"1": "m1", "2": "m10"}}
    both = {"m1": "m1", "m10": "m10"}
    assert order(planned("1", "2", roster=roster("m10", both, assignment)))[0] == "2", "m1 is no part of m10"


def test_a_scenario_outside_the_assignment_gets_modalities_in_turn() -> None:
    plan = planned("3", "1", "2", roster=roster("m1", {"m1": "m1", "m2": "m2"}, {"other": {}}))
    assert {read.agent: read.modality for read in plan.frame(0).reads} == {"1": "m1", "2": "m2", "3": "m1"}


def test_in_turn_means_roadside_units_last_as_in_the_published_tables() -> None:
    plan = planned("3", "-1", "2", roster=roster("m1", IDENTITY, {"other": {}}))
    assert {read.agent: read.modality for read in plan.frame(0).reads} == {"2": "m1", "3": "m2", "-1": "m3"}
    assert order(plan)[0] == "2"


def test_incomplete_assignments_and_mappings_are_named() -> None:
    with pytest.raises(DataError, match=r"no modality to agent\(s\) 9"):
        planned("9", "311", roster=roster("m1", IDENTITY, ASSIGNED))
    with pytest.raises(ConfigError, match="mapping_dict: no entry for 'm4'"):
        planned("2051", "311", roster=roster("m2", {"m1": "m1"}, {"s": {"2051": "m4", "311": "m1"}}))


def test_training_draws_modalities_per_agent_and_stamp() -> None:
    drawn = Roster(("m1", "m2"), ("m1", "m2", "m3"), preference={"m3": 1.0, "m1": 0.0}, train=True)
    names = tuple(str(number) for number in range(6))
    plan = make_plan(tree(*names), train=True, max_cav=6, roster=drawn, draws=Draws.keyed(3))
    reads = [plan.frame(index).reads for index in range(3)]
    assert {read.modality for agents in reads for read in agents[1:]} == {"m3"}
    assert {agents[0].modality for agents in reads} <= {"m1", "m2"}


def test_draw_order_of_the_published_training_plan() -> None:
    """Listing sorted, shuffled once by the data set and once by the assignment, then modalities agent by agent."""
    names = ("10", "11", "12")
    legacy = Draws(np.random.RandomState(5), random.Random(5))
    drawn = Roster(("m1", "m2"), ("m1", "m2"), train=True)
    plan = make_plan(tree(*names), train=True, max_cav=5, roster=drawn, draws=legacy)
    python, numpy = random.Random(5), np.random.RandomState(5)
    expected = sorted(names)
    python.shuffle(expected)
    python.shuffle(expected)
    leading = [numpy.choice(["m1", "m2"]) for _ in STAMPS]
    others = [python.choices(["m1", "m2"], weights=[0.5, 0.5])[0] for _ in range(2 * len(STAMPS))]
    assert order(plan) == expected
    found = [[read.modality for read in plan.frame(index).reads] for index in range(3)]
    assert [row[0] for row in found] == leading
    assert [row[1] for row in found] + [row[2] for row in found] == others


def test_roster_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ASSIGNED))
    heter = {"ego_modality": "m1 & m2", "modality_setting": {"m1": {}}, "assignment_path": str(tmp_path / "a.json")}
    built = build_roster({"heter": heter}, train=False)
    assert built is not None and built.ego_modalities == ("m1", "m2") and built.assignment == ASSIGNED
    elsewhere = {"heter": heter | {"assignment_path": "some/folder/a.json"}, "validate_dir": str(tmp_path / "test")}
    assert build_roster(elsewhere, train=False).assignment == ASSIGNED, "the table beside the data"
    for unused in (None, "None"):
        assert build_roster({"heter": heter | {"assignment_path": unused}}, train=False).assignment is None
    assert build_roster({}, train=False) is None
    with pytest.raises(ConfigError, match="assignment_path: no file"):
        build_roster({"heter": heter | {"assignment_path": "none.json"}}, train=False)
    with pytest.raises(ConfigError, match="not in modality_setting"):
        build_roster({"heter": heter | {"ego_modality": "m7"}}, train=True)
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(ConfigError, match="must map scenarios"):
        build_roster({"heter": heter}, train=False)


@pytest.mark.parametrize(
    ("file", "channels", "expected"),
    [
        ("data/OPV2V/test/s/1/000001.pcd", 32, "data/OPV2V_Hetero/test/s/1/000001_32.pcd"),
        ("data/OPV2V/test/s/1/000001.pcd", 16, "data/OPV2V_Hetero/test/s/1/000001_16.pcd"),
        ("data/OPV2V/test/s/1/000001.pcd", None, "data/OPV2V/test/s/1/000001.pcd"),
        ("OPV2V_copies/OPV2V/test/s/1/000001.pcd", 32, "OPV2V_copies/OPV2V_Hetero/test/s/1/000001_32.pcd"),
        ("elsewhere/test/s/1/000001.pcd", 32, "elsewhere/test/s/1/000001_32.pcd"),
    ],
)
def test_files_of_lower_resolution(file: str, channels: int | None, expected: str) -> None:
    assert channel_file(Path(file), channels) == Path(expected)


def test_additional_files_lie_in_their_own_tree() -> None:
    beside, tree_of_its_own = additional_files(Path("train/OPV2V/test/s/1/a.png"))
    assert beside == Path("train/OPV2V/test/s/1/a.png")
    assert tree_of_its_own == Path("train/OPV2V/additional/test/s/1/a.png")


def test_how_many_agents_take_part_at_most_when_a_file_does_not_say() -> None:
    numbers = [
        max_cav_of({"flavor": flavor}, conventions=REGISTRY.get("reader", name).target.conventions)
        for flavor, name in (("heal", "opv2v"), ("coopre", "opv2v"), ("gencomm", "v2xreal"), ("v2v4real", "v2v4real"))
    ]
    assert numbers == [5, 4, 4, 2]


def test_modalities_that_no_network_reads_are_told(caplog: pytest.LogCaptureFixture) -> None:
    heter = {"ego_modality": "m1", "modality_setting": {"m1": {}, "m3": {}}, "mapping_dict": {"m1": "m1", "m4": "m2"}}
    build_roster({"heter": heter, "flavor": "gencomm"}, train=True)
    assert not caplog.records
    build_roster({"heter": heter, "flavor": "gencomm"}, train=False)
    assert "m4: m2" in caplog.text and "m1, m3" in caplog.text
