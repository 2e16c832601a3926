"""check_hypes --step: every shipped file takes a step, files that mean the same take one together, and so on."""

from pathlib import Path
from typing import Any

import pytest

from opencood.config.flavor import SHIPPED
from opencood.config.loader import Hypes, load_file
from opencood.config.tree import with_value
from opencood.errors import ConfigError
from opencood.experiments import hypes_step, hypes_sweep
from opencood.experiments.hypes_check import FAILED, STEPPED, hypes_files
from opencood.experiments.hypes_step import step, step_key
from opencood.experiments.hypes_sweep import SweepOptions, summary, sweep
from opencood.experiments.step_changes import changes
from opencood.experiments.step_scenes import make_scenes, on_scene
from opencood.tools.check_hypes import main

pytestmark = pytest.mark.slow


def few() -> list[Path]:
    """Every shipped file; of GenComm's many, which differ in types and fusion, one for each data set and detector."""
    found, chosen = set(), []
    for file in hypes_files([SHIPPED]):
        name = file.relative_to(SHIPPED)
        kind = (name.parts[0], load_file(file)["model"]["core_method"])
        if "GenComm_yamls" not in name.parts or kind not in found:
            chosen.append(file)
        found.add(kind if "GenComm_yamls" in name.parts else name)
    return chosen


def test_every_shipped_file_steps():
    checks = list(sweep(SweepOptions(tuple(few()), step=True)))
    assert {check.outcome for check in checks} == {STEPPED}, [check.lines() for check in checks]
    found = [
        check.stepped.boxes > 0 for check in checks if check.stepped and "detects nothing" not in str(check.lines())
    ]
    assert sum(found) > 0.95 * len(found)  # scores of random weights may all stay below the threshold
    (total,) = [line.split() for line in summary(checks) if line.startswith("all ")]
    assert total[:4] == ["all", *[str(len(checks))] * 3]


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """Two files that differ in what no step depends on, and one that builds and cannot take a step."""
    base = f"_base_: {SHIPPED}/sim/late.yaml\n"
    (tmp_path / "a.yaml").write_text(f"{base}name: first\nroot_dir: nowhere\n")
    (tmp_path / "b.yaml").write_text(f"{base}name: second\noptimizer: {{lr: 0.5}}\n")
    (tmp_path / "c.yaml").write_text(f"{base}loss: {{core_method: nothing_loss}}\n")
    return tmp_path


def test_equal_steps_are_taken_once(twins, monkeypatch):
    taken = []
    monkeypatch.setattr(hypes_sweep, "step", lambda hypes, scenes: taken.append(hypes) or step(hypes, scenes))
    first, second, failed = sweep(SweepOptions((twins,), step=True))
    assert len(taken) == 2 and first.stepped == second.stepped is not None
    assert failed.outcome == FAILED and "unknown loss 'nothing_loss'" in failed.error
    assert step_key(load_file(twins / "a.yaml")) == step_key(load_file(twins / "b.yaml"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(folder, {"opv2v", "v2xreal"})
    return folder


def test_a_step_can_be_repeated(scenes):
    hypes = load_file(SHIPPED / "sim" / "intermediate.yaml")
    first, second = step(hypes, scenes), step(hypes, scenes)
    assert (first.loss, first.boxes, first.modalities) == (second.loss, second.boxes, second.modalities)
    assert first.modalities == ("m1",)


def changed(path: str, key: str, value: Any) -> Hypes:
    hypes = load_file(SHIPPED / path)
    return hypes.replaced(with_value(hypes, key, value))


def test_parts_that_do_not_fit_take_a_step_after_a_change_that_is_told(scenes):
    anchors = step(changed("sim/late.yaml", "postprocess.anchor_args.feature_stride", 8), scenes)
    assert anchors.remarks[0].startswith("stepped with an anchor cell for every 2 voxels: model and postprocess")
    single = step(changed("sim/early.yaml", "fusion.core_method", "intermediate"), scenes)
    assert single.remarks[0].startswith("stepped with one agent: model and postprocess disagree")


def test_a_file_of_cameras_only_gets_a_lidar():
    told, small = next(changes(changed("sim/late.yaml", "input_source", ["camera"])))
    assert told == "with LiDAR" and small["input_source"] == ["camera", "lidar"]


def test_a_file_to_look_at_data_takes_a_step_without_a_loss(scenes):
    hypes = load_file(SHIPPED / "sim" / "v2xreal" / "late.yaml")
    seen = step(hypes.replaced({key: value for key, value in hypes.items() if key != "loss"}), scenes)
    assert seen.loss is None and str(seen).startswith("no loss") and "no loss for it" in seen.remarks[0]


def test_a_defect_is_not_taken_for_parts_that_do_not_fit(scenes, monkeypatch):
    hypes = load_file(SHIPPED / "sim" / "opv2v" / "heter.yaml")
    calls = []

    def broken(hypes, model):
        calls.append(hypes)
        raise ConfigError("the maps differ") if len(calls) == 1 else RuntimeError("shapes")

    monkeypatch.setattr(hypes_step, "train_once", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        step(hypes, scenes)


def test_a_loss_without_gradients_is_no_step(scenes, monkeypatch):
    monkeypatch.setattr(hypes_step.Criterion, "total", lambda self, shares: shares[""][0] * 0)
    with pytest.raises(hypes_step.BadStep, match="no parameter gets a gradient"):
        step(load_file(SHIPPED / "sim" / "late.yaml"), scenes)


def test_exit_codes_and_several_processes(twins, capsys):
    assert main([str(twins), "--step", "--jobs", "2", "--refused-ok"]) == 1
    assert capsys.readouterr().out.count("one step: loss") == 2
    (twins / "c.yaml").unlink()
    assert main([str(twins), "--step"]) == 0
    assert main([str(twins), "--no-build"]) == 0
    (twins / "d.yaml").write_text("a: [1\n")
    assert main([str(twins), "--no-build"]) == 1


def test_a_loss_of_outputs_that_nobody_gives_is_replaced():
    told, small = next(changes(changed("sim/opv2v/heter.yaml", "loss.core_method", "point_pillar_gmatch_loss")))
    assert told == "with point_pillar_gencomm_loss" and small["loss"]["core_method"] == "point_pillar_gencomm_loss"


def test_every_modality_of_the_ego_takes_part_in_the_test(scenes):
    hypes = load_file(SHIPPED / "sim" / "opv2v" / "heter.yaml")
    heter = {**hypes["heter"], "ego_modality": ["m5"], "heter_group": [["m5", "m6"], ["m1"]]}
    heter["mapping_dict"] = {"m1": "m1", "m3": "m6", "m4": "m5"}
    small = on_scene(hypes.replaced({**hypes, "heter": heter}), scenes, "opv2v")
    for names in small["modality_assignment"].values():
        assert list(names.values()) == ["m4", "m3", "m4", "m3"]
    with pytest.raises(ConfigError, match="'kitti' data are not simulated"):
        on_scene(hypes, scenes, "kitti")
