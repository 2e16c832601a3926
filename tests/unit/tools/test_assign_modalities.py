"""assign_modalities: tables for any data set, who is what in a scene, and the published tables as they are shipped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import opencood
from opencood.errors import ConfigError, DataError
from opencood.experiments.modality_tables import deal, explain, read_table, roster_of
from opencood.tools.assign_modalities import main
from tests.faults.trees import TREES

SHIPPED = Path(opencood.__file__).parent / "modality_assign"
PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data" / "modality_assign"
LEFT_OUT = "left out: no entry in mapping_dict"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight scenarios in two splits with the agents 1 and -1."""
    folder = tmp_path / "data"
    for split in ("train", "test"):
        made = TREES["v2xset"](folder / split).root / "2021_01_01_10_00_00"
        for number in range(4):
            (folder / split / f"{split}_{number}").symlink_to(made)
    return folder


def made_table(root: Path, *options: str) -> dict[str, dict[str, str]]:
    out = root.parent / "table.json"
    main(["make", str(root), "--out", str(out), *options])
    return json.loads(out.read_text())


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no shared data")
def test_published_tables_and_definitions_are_shipped_as_they_are() -> None:
    for file in PUBLISHED.iterdir():
        assert (SHIPPED / file.name).read_bytes() == file.read_bytes(), file.name
        assert file.name in (SHIPPED / "NOTICE").read_text()


@pytest.mark.parametrize("name", ["opv2v_4modality_in_order.json", "v2xset_4modality_in_order.json"])
def test_published_tables_in_order_follow_our_rule(name: str) -> None:
    for agents in read_table(SHIPPED / name).values():
        assert list(agents) == sorted(agents, key=lambda agent: (agent.startswith("-"), agent))
        assert list(agents.values()) == deal(("m1", "m2", "m3", "m4"), len(agents))


def test_a_table_in_order(root: Path) -> None:
    table = made_table(root, "--order", "in_order", "--split", "test")
    assert len(table) == 5 and {name[:4] for name in table} == {"test", "2021"}
    assert all(list(agents.items()) == [("1", "m1"), ("-1", "m2")] for agents in table.values())
    assert set(made_table(root, "--order", "in_order", "--modalities", "m7")["test_0"].values()) == {"m7"}


def test_a_random_table_depends_on_the_seed_alone(root: Path) -> None:
    first, again, other = (made_table(root, "--seed", seed) for seed in ("3", "3", "4"))
    assert first == again != other
    assert len(first) == 9 and all(len(set(agents.values())) == 2 for agents in first.values()), "dealt in turn"
    assert {name for agents in first.values() for name in agents.values()} == {"m1", "m2", "m3", "m4"}


def test_shares_hold_over_all_agents(root: Path) -> None:
    table = made_table(root, "--shares", "m1=2", "m2=1", "m9=0")
    assert Counter(name for agents in table.values() for name in agents.values()) == {"m1": 12, "m2": 6}
    assert (
        table
        == made_table(root, "--shares", "m1=2", "m2=1", "m9=0")
        != made_table(root, "--shares", "m1=2", "m2=1", "--seed", "1")
    )
    for options in (["m1=-1"], ["m1=0"], ["m1=1", "--order", "in_order"]):
        with pytest.raises(ConfigError, match="--shares"):
            made_table(root, "--shares", *options)


def test_a_configuration_explains_its_own_table(root: Path) -> None:
    made_table(root, "--order", "in_order")
    setting = {"sensor_type": "lidar", "core_method": "point_pillar", "preprocess": {}}
    heter = {
        "ego_modality": "m2",
        "mapping_dict": {"m1": "m1", "m2": "m2"},
        "modality_setting": {"m1": setting, "m2": setting},
    }
    hypes = {"heter": heter | {"assignment_path": str(root.parent / "table.json")}}
    places = explain(roster_of(hypes, None, {}, ""), "test_0", hypes)
    assert [(place.agent, place.modality, place.role) for place in places] == [
        ("-1", "m2", "ego"), ("1", "m1", "collaborator"),
    ]  # fmt: skip
    assert places[0].network == "lidar, point_pillar"


def test_what_a_mapping_makes_of_a_published_scene(capsys: pytest.CaptureFixture[str]) -> None:
    table = SHIPPED / "opv2v_4modality_in_order.json"
    scene = "2021_08_22_07_52_02"
    places = explain(roster_of(None, read_table(table), {"m1": "m1", "m2": "m1", "m3": "m2"}, "m2"), scene)
    assert [(place.agent, place.assigned, place.modality, place.role) for place in places] == [
        ("3495", "m3", "m2", "ego"),
        ("3477", "m1", "m1", "collaborator"),
        ("3486", "m2", "m1", "collaborator"),
        ("3513", "m1", "m1", "collaborator"),
        ("3504", "m4", "", LEFT_OUT),
    ]
    main(["explain", str(table), "--scenario", scene, "--mapping", "m1=m1", "m2=m1", "m3=m2", "--ego", "m2"])
    text = capsys.readouterr().out
    assert f"{scene}\n      3495  m3 -> m2   ego\n" in text and "the table has m1 17 (38%)" in text


def test_who_takes_no_part() -> None:
    setting = {"sensor_type": "lidar", "core_method": "point_pillar"}
    heter = {
        "assignment_path": "opencood/modality_assign/opv2v_4modality_in_order.json", "ego_modality": "m1",
        "mapping_dict": {"m1": "m1", "m2": "m2", "m3": "m1", "m4": "m1"}, "modality_setting": {"m1": setting},
        "lidar_channels_dict": {"m1": 32},
    }  # fmt: skip
    hypes = {"train_params": {"max_cav": 4}, "heter": heter}
    first, second, _, _, last = explain(roster_of(hypes, None, {}, ""), "2021_08_22_07_52_02", hypes)
    assert first.role == "ego" and first.network == "lidar, point_pillar, 32 lines"
    assert (second.role, second.network) == ("left out: not in modality_setting", "")
    assert last.role == "left out: beyond max_cav"


def test_a_shipped_configuration_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    table = SHIPPED / "opv2v_4modality.json"
    main(["explain", str(table), "-y", str(SHIPPED.parent / "hypes_yaml/exemplar.yaml")])
    assert "68 scenarios; the table has m1 " in capsys.readouterr().out


def test_what_cannot_be_explained_or_made(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a table"):
        main(["explain"])
    with pytest.raises(DataError, match="'nowhere' is not in the table"):
        main(["explain", str(SHIPPED / "opv2v_4modality.json"), "--scenario", "nowhere"])
    with pytest.raises(ConfigError, match="no file"):
        main(["explain", str(tmp_path / "none.json")])
    with pytest.raises(ConfigError, match="dairv2x: needs no table"):
        made_table(TREES["dairv2x"](tmp_path / "dair").folder)
    with pytest.raises(ConfigError, match="no validate; found train, test"):
        made_table(root, "--split", "validate")
