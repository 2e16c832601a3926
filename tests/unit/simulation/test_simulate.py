import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from opencood.errors import ConfigError, StorageError
from opencood.experiments.simulate import MANIFEST, SimulationOptions, simulate
from opencood.registry import REGISTRY
from opencood.tools.simulate import main

FORMATS = ["opv2v", "v2xset", "v2xsim", "dairv2x", "v2xreal", "v2v4real"]
TINY = {"preset": "mini", "scenarios": (1, 1, 1), "frames": 1}


def tree_digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    "format_name",
    ["v2xsim", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS if name != "v2xsim")],
)
def test_the_seed_is_the_content_whatever_the_number_of_processes(tmp_path, format_name):
    sensors = {"cameras": True, "image_size": (48, 32), "fov": 80.0, "extra_beams": (16,)}
    options = SimulationOptions(tmp_path / "a", **TINY, format=format_name, **sensors)
    one = simulate(options)
    two = simulate(replace(options, out=tmp_path / "b", jobs=2))
    other = simulate(replace(options, out=tmp_path / "c", seed=1))

    assert one.digest == two.digest != other.digest
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b") != tree_digest(tmp_path / "c")


def test_domains_differ_in_roads_and_sensors(tmp_path):
    options = SimulationOptions(tmp_path / "usual", **TINY)
    usual = simulate(options)
    assert simulate(replace(options, out=tmp_path / "same", roads="mixed", sensor_height=1.9)).digest == usual.digest
    other = replace(options, out=tmp_path / "other", roads="avenues", sensor_height=2.4)
    assert simulate(other).digest != usual.digest
    metadata = next((tmp_path / "other" / "train").glob("*/*/*.yaml"))
    assert yaml.safe_load(metadata.read_text())["lidar_pose"][2] == pytest.approx(2.4)
    with pytest.raises(ConfigError, match="none of mixed, streets"):
        simulate(replace(options, out=tmp_path / "x", roads="motorway"))
    with pytest.raises(ConfigError, match="--sensor_height: expected 1.6"):
        simulate(replace(options, out=tmp_path / "x", sensor_height=0.5))


def test_options_shape_the_data_set(tmp_path):
    report = simulate(
        SimulationOptions(tmp_path, "mini", scenarios=(2,), frames=3, agents=(3, 3), rsu=True, beams=16, stats=True)
    )

    assert report.frames == {"train": 6, "validate": 3, "test": 6}
    assert report.statistics is not None and report.statistics.frames == 6
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["digest"] == report.digest and manifest["settings"]["lidar"]["beams"] == 16
    assert len({scenario["world"] for scenario in manifest["scenarios"]}) == 5
    for scenario in manifest["scenarios"]:
        assert len(scenario["agents"]) == 4 and "-1" in scenario["agents"]
        agent = tmp_path / scenario["split"] / scenario["name"] / scenario["agents"][0]
        assert len(list(agent.glob("*.pcd"))) == 3
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"train", "validate", "test"}


def test_cameras_and_further_lidars_are_asked_for(tmp_path):
    options = SimulationOptions(tmp_path / "plain", **TINY)
    simulate(options)
    assert not list((tmp_path / "plain").rglob("*.png"))

    simulate(replace(options, out=tmp_path / "full", cameras=True, image_size=(40, 30), extra_beams=(32, 16)))
    for agent in (folder for folder in (tmp_path / "full").glob("*/*/*") if folder.is_dir()):
        endings = sorted(path.name[6:] for path in agent.iterdir())
        pictures = [f"_{kind}{number}.png" for kind in ("camera", "depth") for number in range(4)]
        maps = [f"_bev_{name}.png" for name in ("visibility", "visibility_corp", "dynamic", "static", "lane")]
        assert endings == sorted([".pcd", ".yaml", "_16.pcd", "_32.pcd", *maps, *pictures])
        with Image.open(next(agent.glob("*_camera3.png"))) as picture:
            assert picture.size == (40, 30) and picture.mode == "RGB"
        with Image.open(next(agent.glob("*_depth3.png"))) as picture:
            assert picture.size == (40, 30) and picture.mode == "L"


def test_a_folder_in_use_is_left_alone(tmp_path):
    options = SimulationOptions(tmp_path, **TINY)
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")

    with pytest.raises(StorageError, match="--overwrite"):
        simulate(options)
    with pytest.raises(StorageError, match="not a simulated data set"):
        simulate(replace(options, overwrite=True))
    assert precious.read_text() == "mine"


def test_overwrite_replaces_an_earlier_simulation(tmp_path):
    options = SimulationOptions(tmp_path, **TINY)
    first = simulate(options)
    (tmp_path / "notes.txt").write_text("keep me")
    stale = tmp_path / "train" / "2021_01_01_00_00_00"
    stale.mkdir()

    second = simulate(replace(options, overwrite=True))
    assert first.digest == second.digest
    assert not stale.exists() and (tmp_path / "notes.txt").exists()


def test_a_simulation_that_was_killed_can_be_overwritten(tmp_path):
    (tmp_path / ".partial" / "train--x").mkdir(parents=True)
    report = simulate(SimulationOptions(tmp_path, **TINY, overwrite=True))
    assert report.frames["train"] == 1 and not (tmp_path / ".partial").exists()


def test_every_format_overwrites_every_other_and_brings_its_cast(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    (tmp_path / ".partial").mkdir()  # an earlier simulation was killed
    tree, casts = {"train"}, {"opv2v": (2, 0), "v2xset": (2, 1), "v2xreal": (2, 2), "v2v4real": (2, 0)}
    files = {
        "opv2v": tree | {"opv2v_4modality.json", "opv2v_4modality_in_order.json"},
        "v2xset": tree | {"v2xset_4modality.json", "v2xset_4modality_in_order.json"},
        "v2xreal": tree | {"v2xreal_4modality.json", "v2xreal_4modality_in_order.json"},
        "v2v4real": tree,
        "v2xsim": {"v2xsim_infos_train.pkl", "sweeps"},
        "dairv2x": {"train.json", "cooperative", "vehicle-side", "infrastructure-side"},
    }
    assert set(files) == set(REGISTRY.names("writer"))
    for name, made in files.items():
        options = SimulationOptions(tmp_path, "mini", scenarios=(1, 0, 0), frames=1, format=name)
        with pytest.raises(StorageError, match="--overwrite"):
            simulate(options)
        simulate(replace(options, overwrite=True))
        assert {path.name for path in tmp_path.iterdir()} == made | {MANIFEST, "notes.txt"}
        manifest = json.loads((tmp_path / MANIFEST).read_text())
        assert manifest["format"] == name
        agents = manifest["scenarios"][0]["agents"]
        if name in casts:
            units = sum(agent.startswith("-") for agent in agents)
            assert (min(2, len(agents) - units), units) == casts[name]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "smal"}, "Did you mean 'small'"),
        ({"format": "opv2"}, "Did you mean 'opv2v'"),
        ({"agents": (0, 2)}, "--agents"),
        ({"agents": (3, 2)}, "--agents"),
        ({"frames": 0}, "--frames"),
        ({"stride": 0}, "--stride"),
        ({"scenarios": (1, 2)}, "--scenarios"),
        ({"scenarios": (0,)}, "--scenarios"),
        ({"scenarios": (0, 0, 0)}, "--scenarios"),
        ({"agents": (3, 3), "format": "v2xreal"}, "--agents: a scenario of v2xreal has 2 connected car"),
        ({"agents": (2, 2), "format": "dairv2x"}, "--agents: a scenario of dairv2x has 1"),
        ({"rsu": True, "format": "v2v4real"}, "--rsu: a scenario of v2v4real has 0"),
        ({"beams": 17}, "--beams"),
        ({"jobs": 0}, "--jobs"),
        ({"seed": -1}, "--seed"),
        ({"extra_beams": (32, 64)}, "--extra_beams.*64"),
        ({"cameras": True, "image_size": (320, 4)}, "--image_size"),
        ({"cameras": True, "fov": 179.0}, "--fov"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, wrong, message):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=message):
        simulate(SimulationOptions(**{"out": out, **TINY, **wrong}))
    assert not out.exists()


def test_an_unwritable_place_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        simulate(SimulationOptions(tmp_path / "file" / "out", **TINY))


def test_command_line(tmp_path, capsys):
    main(
        ["--out", str(tmp_path / "d"), "--preset", "mini", "--scenarios", "1,0,1", "--frames", "2",
         "--stride", "1", "--agents", "2-3", "--seed", "5", "--format", "opv2v", "--stats",
         "--cameras", "--image_size", "32x24", "--fov", "90", "--extra_beams", "16"]
    )  # fmt: skip

    printed = capsys.readouterr().out
    assert "frames train 2, validate 0, test 2" in printed
    assert "from others" in printed and "content digest" in printed


@pytest.mark.parametrize(
    "option", [["--agents", "many"], ["--agents", "2-"], ["--scenarios", "1,x"], ["--image_size", "320"]]
)
def test_command_line_explains_its_notation(tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *option])
    assert option[0] in capsys.readouterr().err
