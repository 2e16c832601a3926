"""CodeAlign, STAMP and GenComm: scenarios of the assignment alone, groups that never meet, who may draw what."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.config.loader import load_mapping, load_yaml
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.index import Track
from opencood.data.modality import Roster, build_roster, load_assignment
from opencood.data.plan import Plan, make_plan
from opencood.data.readers.opv2v import channel_file_plus
from opencood.errors import ConfigError
from tests.unit.data.conftest import AGENTS, metadata_of

Write = Callable[..., Path]
Hypes = Callable[..., Any]
STAMPS = tuple(f"{number:06d}" for number in range(8))
SCENES = {"s2": {"7": "m1", "3": "m2"}, "s1": {"-1": "m1", "5": "m2", "4": "m9"}, "s3": {"9": "m1"}}


def trees(table: Any, **more: list[str]) -> dict[str, dict[str, Track]]:
    names = {scenario: list(agents) for scenario, agents in table.items()} | more
    return {
        scenario: {agent: Track(STAMPS, 0) for agent in sorted(agents)} for scenario, agents in sorted(names.items())
    }


def planned(roster: Roster, table: Any, seed: int = 0, **more: list[str]) -> Plan:
    return make_plan(trees(table, **more), train=roster.train, max_cav=5, roster=roster, draws=Draws.keyed(seed))


def who(plan: Plan) -> dict[str, list[tuple[str, str | None]]]:
    """Agents with their modalities at the first stamp of every scenario, in the order of the data set."""
    frames = [plan.frame(index) for index in range(0, len(plan), len(STAMPS))]
    return {frame.scenario: [(read.agent, read.modality) for read in frame.reads] for frame in frames}


def test_a_closed_assignment_decides_who_takes_part_and_in_which_order() -> None:
    roster = Roster(("m1",), ("m1", "m2"), {"m1": "m1", "m2": "m2"}, assignment=SCENES, closed=True)
    found = who(planned(roster, SCENES, unlisted=["1", "2"]))
    assert list(found) == ["s2", "s1", "s3"], "the order of the file"
    assert found["s2"] == [("7", "m1"), ("3", "m2")]
    assert found["s1"] == [("-1", "m1"), ("5", "m2")], "m9 is no key of mapping_dict; an m1 agent leads"
    open_roster = Roster(("m1",), ("m1", "m2"), {"m1": "m1", "m2": "m2", "m9": "m1"}, assignment=SCENES)
    assert list(who(planned(open_roster, SCENES, unlisted=["1", "2"]))) == ["s1", "s2", "s3", "unlisted"]


def test_a_dropped_leader_leaves_a_scenario_with_the_next_or_none() -> None:
    table = {"a": {"1": "m8", "2": "m1"}, "b": {"1": "m8"}}
    roster = Roster(("m1",), ("m1",), {"m1": "m1"}, assignment=table, closed=True)
    assert who(planned(roster, table)) == {"a": [("2", "m1")]}


def test_an_assignment_of_other_data_is_left_aside() -> None:
    roster = Roster(("m1",), ("m1", "m2"), {"m1": "m1", "m2": "m2"}, assignment=SCENES, closed=True)
    assert who(planned(roster, {}, x=["1", "2"])) == {"x": [("1", "m1"), ("2", "m2")]}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.lists(st.lists(st.sampled_from(["m1", "m2", "m3", "m4"]), min_size=1, unique=True), min_size=1, max_size=3),
    st.integers(0, 1000),
)
def test_groups_never_meet_and_all_their_modalities_turn_up(
    sizes: list[int], groups: list[list[str]], seed: int
) -> None:
    table = {f"s{k}": {str(agent): "m1" for agent in range(size)} for k, size in enumerate(sizes)}
    dealt = tuple(map(tuple, groups))
    roster = Roster(("m1",), (), assignment=table, train=True, closed=True, groups=dealt)
    plan = planned(roster, table, seed)
    for index in range(len(plan)):
        frame = plan.frame(index)
        group = dealt[list(table).index(frame.scenario) % len(dealt)]
        assert {read.modality for read in frame.reads} <= set(group)
    assert len(plan) == len(table) * len(STAMPS)


def test_any_agent_may_lead_a_group_and_every_stamp_draws() -> None:
    table = {"s": {"1": "m1", "2": "m1"}}
    roster = Roster(("m1",), (), assignment=table, train=True, closed=True, groups=(("m1", "m2", "m3"),))
    leaders, modalities = set(), set()
    for seed in range(20):
        plan = planned(roster, table, seed)
        leaders |= {plan.frame(0).reads[0].agent}
        modalities |= {read.modality for index in range(len(plan)) for read in plan.frame(index).reads}
    assert leaders == {"1", "2"} and modalities == {"m1", "m2", "m3"}


def test_validation_draws_from_the_modalities_of_the_ego() -> None:
    roster = Roster(("m1", "m6"), (), assignment=SCENES, closed=True, validation=True)
    seen = {modality for found in who(planned(roster, SCENES)).values() for _, modality in found}
    assert seen <= {"m1", "m6"} and len(seen) == 2


@pytest.fixture
def codealign(folder: Write, hypes: Hypes, tmp_path: Path) -> Hypes:
    """``codealign(**changes of heter)`` -> a configuration over two made scenarios and an assignment of one of them."""
    root = folder()
    folder(scenario="2021_01_01_11_00_00")
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"2021_01_01_11_00_00": {"641": "m1", "1045": "m2"}, "absent": {"1": "m1"}}))

    def make(method: str = "intermediateheter", top: Any = None, **changes: Any) -> Any:
        content = hypes(root, method, flavor="codealign", **(top or {}))
        setting = content["heter"]["modality_setting"]["m1"]
        content["heter"] |= {
            "assignment_path": str(table),
            "ego_modality": ["m1", "m2"],
            "mapping_dict": {"m1": "m1", "m2": "m2", "m3": "m3"},
            "modality_setting": {name: copy.deepcopy(setting) for name in ("m1", "m2", "m3")},
            "heter_group": [["m2", "m3"], ["m1"]],
        } | changes
        return content

    return make


def test_training_reads_the_scenarios_and_the_groups_of_the_configuration(codealign: Hypes) -> None:
    dataset = build_dataset(codealign(), train=True)
    assert {dataset.frame(index).scenario for index in range(len(dataset))} == {"2021_01_01_11_00_00"}
    seen = set()
    for epoch in range(10):
        dataset.reinitialize(epoch)
        batch = dataset.collate_batch_train([dataset[0]])["ego"]
        seen |= set(batch["agent_modality_list"])
    assert seen == {"m2", "m3"}, "the first scenario of the file draws from the first group"
    assert {"gt_boxes", "foreground_map"} <= set(batch["label_dict"])


def test_testing_maps_names_and_validation_draws(codealign: Hypes) -> None:
    tested = build_dataset(codealign(mapping_dict={"m1": "m3", "m2": "m2"}), train=False).frame(0)
    assert [(agent.id, agent.modality) for agent in tested.agents] == [("641", "m3"), ("1045", "m2")]
    validated = build_dataset(codealign(top={"val": True}, ego_modality=["m3"]), train=False).frame(0)
    assert [agent.modality for agent in validated.agents] == ["m3", "m3"]


def test_testing_takes_five_agents_whatever_the_file_says(codealign: Hypes) -> None:
    top = {"train_params": {"max_cav": 2}}
    assert build_dataset(codealign(top=top), train=False)[0]["ego"]["pairwise_t_matrix"].shape == (5, 5, 4, 4)
    fixed = build_dataset(codealign(top=top | {"parity": "fixed"}), train=False)
    assert fixed[0]["ego"]["pairwise_t_matrix"].shape == (2, 2, 4, 4)


def test_in_order_inference_of_codealign_tells_where_all_agents_are(codealign: Hypes) -> None:
    dataset = build_dataset(codealign("intermediateheterinfer", top={"use_cav": 1}), train=False)
    batch = dataset.collate_batch_test([dataset[0]])
    ego = batch["ego"]
    assert ego["transformation_matrix"].shape == ego["transformation_matrix_clean"].shape == (2, 4, 4)
    np.testing.assert_allclose(ego["transformation_matrix"][0], np.eye(4), atol=1e-6)
    assert dataset.post_processor.generate_gt_bbx(batch).shape == (4, 8, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heter_group": ["m1"]}, "heter_group: expected a list of groups"),
        ({"heter_group": [["m8"]]}, "nothing of the group .*m8.* is a key of mapping_dict"),
    ],
)
def test_wrong_groups_are_named(codealign: Hypes, change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_dataset(codealign(**change), train=True)


def test_sections_that_say_none_are_not_used(folder: Write, hypes: Hypes) -> None:
    unused = dict.fromkeys(
        ("add_data_extension", "data_augment", "kd_flag", "box_align", "modality_assignment"), "None"
    )
    content = hypes(folder(), "intermediateheter", **unused)
    content["heter"] |= dict.fromkeys(("cav_preference", "lidar_channels_dict", "assignment_path"), "None")
    for train in (True, False):
        assert build_dataset(content, train)[0]["ego"]["agents"] == 2


def test_definitions_and_tables_are_found_beside_the_file(tmp_path: Path, hypes: Hypes, folder: Write) -> None:
    content = dict(hypes(folder(), "intermediateheter"))
    setting = content["heter"]["modality_setting"]["m1"]
    library = {"heter": {"modality_setting": {"m7": setting}}, "model": {"args": {"m7": {"encoder_args": {}}}}}
    (tmp_path / "define.yaml").write_text(yaml.safe_dump(library))
    (tmp_path / "table.json").write_text(json.dumps({"2021_01_01_10_00_00": dict.fromkeys(AGENTS, "m7")}))
    heter = {
        "definition_path": "define.yaml", "assignment_path": "table.json", "ego_modality": ["m7"],
        "mapping_dict": {"m7": "m7"}, "heter_group": [["m7"]],
    }  # fmt: skip
    content |= {"heter": heter, "yaml_parser": "load_general_params_heter_group", "name": "x"}
    content["train_params"] |= {"batch_size": 1, "epoches": 1, "eval_freq": 1, "save_freq": 1}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(content))))
    loaded = load_yaml(file)
    assert loaded["heter"]["modality_setting"].keys() == {"m7"} and "m7" in loaded["model"]["args"]
    for train in (True, False):
        assert [agent.modality for agent in build_dataset(loaded, train).frame(0).agents] == ["m7", "m7"]
    published = {"heter": {"assignment_path": "some/other/folder/opv2v_4modality.json"}}
    assert load_assignment(published), "published tables go by their name"


def test_collaborators_apart_from_the_ego(folder: Write, hypes: Hypes) -> None:
    content = hypes(folder(), "intermediateheter", flavor="gencomm", ego_diff_cav=True)
    setting = content["heter"]["modality_setting"]["m1"]
    content["heter"]["modality_setting"] = dict.fromkeys(("m1", "m2", "m3"), setting)
    trained = build_roster(content, True)
    assert trained is not None
    drawn = {trained.modality("s", ["1", "2"], place, Draws.keyed(seed)) for seed in range(40) for place in (1,)}
    assert drawn == {"m2", "m3"} and trained.modality("s", ["1", "2"], 0, Draws.keyed(0)) == "m1"
    content["modality_assignment"] = {"s": {"1": "m1", "2": "m1"}}
    tested = [build_roster(content | {"parity": parity}, False) for parity in ("published", "fixed")]
    names = [roster.modality("s", ["1", "2"], 1, Draws.keyed(0)) for roster in tested if roster is not None]
    assert names[0] in {"m2", "m3"} and names[1] == "m1", "published: the assignment is left aside"


def test_stamp_takes_its_agents_from_the_assignment(folder: Write, hypes: Hypes) -> None:
    content = hypes(folder(), "intermediateheter")
    folder(scenario="2021_01_01_11_00_00")
    content["fusion"]["dataset"] = "opv2v4stamp"
    content["heter"]["mapping_dict"] = {"m1": "m1"}
    content["modality_assignment"] = {"2021_01_01_11_00_00": {"641": "m1", "1045": "m5"}}
    for train in (True, False):
        dataset = build_dataset(content, train)
        assert {dataset.frame(index).scenario for index in range(len(dataset))} == {"2021_01_01_11_00_00"}
        assert [agent.id for agent in dataset.frame(0).agents] == ["641"]


def test_sweeps_of_opv2v_h_plus() -> None:
    path = Path("dataset/OPV2VH_MoreAgents/test/s/641/000069.pcd")
    lidar = "dataset/OPV2VH_MoreAgents_LiDAR"
    assert str(channel_file_plus(path, 32)) == f"{lidar}/test_32/s/641/000069.pcd"
    assert str(channel_file_plus(path, None)) == f"{lidar}/test_64/s/641/000069.pcd"
    with pytest.raises(ConfigError, match="not 16"):
        channel_file_plus(path, 16)


def test_opv2v_h_plus_is_told_by_its_assignment(hypes: Hypes, tmp_path: Path) -> None:
    table = tmp_path / "opv2vhplus_10modality.json"
    table.write_text("{}")
    place = tmp_path / "OPV2VH_MoreAgents/test/s/641"
    place.mkdir(parents=True)
    (place / "000001.yaml").write_text(yaml.safe_dump(metadata_of("641", AGENTS["641"], {})))
    content = hypes(tmp_path / "OPV2VH_MoreAgents/test", "intermediateheter")
    content["heter"] |= {"assignment_path": str(table), "lidar_channels_dict": {"m1": 32}}
    source = build_dataset(load_mapping(content), train=False).frame(0).ego.lidar
    assert source.path == tmp_path / "OPV2VH_MoreAgents_LiDAR/test_32/s/641/000001.pcd"
