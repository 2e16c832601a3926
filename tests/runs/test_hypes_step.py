"""check_hypes --step: every shipped file takes a step, files that mean the same take one together, and so on."""

from pathlib import Path

import pytest

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file
from opencood.experiments import hypes_sweep
from opencood.experiments.hypes_check import REFUSED, STEPPED
from opencood.experiments.hypes_step import make_scenes, step, step_key
from opencood.experiments.hypes_sweep import SweepOptions, summary, sweep
from opencood.tools.check_hypes import main

pytestmark = pytest.mark.slow


def test_every_shipped_file_steps():
    checks = list(sweep(SweepOptions((SHIPPED,), step=True)))
    assert {check.outcome for check in checks} == {STEPPED}, [check.lines() for check in checks]
    assert all(check.stepped.boxes > 0 for check in checks if check.stepped)
    assert summary(checks)[-1].split()[:4] == ["all", *[str(len(checks))] * 3]


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """Two files that differ in what no step depends on, and one whose step is refused."""
    base = f"_base_: {SHIPPED}/sim/late.yaml\n"
    (tmp_path / "a.yaml").write_text(f"{base}name: first\nroot_dir: nowhere\n")
    (tmp_path / "b.yaml").write_text(f"{base}name: second\noptimizer: {{lr: 0.5}}\n")
    (tmp_path / "c.yaml").write_text(f"{base}loss: {{core_method: nothing_loss}}\n")
    return tmp_path


def test_equal_steps_are_taken_once(twins, monkeypatch):
    taken = []
    monkeypatch.setattr(hypes_sweep, "step", lambda hypes, scenes: taken.append(hypes) or step(hypes, scenes))
    first, second, refused = sweep(SweepOptions((twins,), step=True))
    assert len(taken) == 2 and first.stepped == second.stepped is not None
    assert refused.outcome == REFUSED and "unknown loss 'nothing_loss'" in refused.error
    assert step_key(load_file(twins / "a.yaml")) == step_key(load_file(twins / "b.yaml"))


def test_a_step_can_be_repeated(tmp_path):
    make_scenes(tmp_path, {"opv2v"})
    hypes = load_file(SHIPPED / "sim" / "intermediate.yaml")
    first, second = step(hypes, tmp_path), step(hypes, tmp_path)
    assert (first.loss, first.boxes, first.modalities) == (second.loss, second.boxes, second.modalities)
    assert first.modalities == ("m1",)


def test_exit_codes_and_several_processes(twins, capsys):
    assert main([str(twins), "--step", "--jobs", "2", "--refused-ok"]) == 0
    assert capsys.readouterr().out.count("one step: loss") == 2
    assert main([str(twins), "--no-build"]) == 0
    (twins / "d.yaml").write_text("a: [1\n")
    assert main([str(twins), "--no-build"]) == 1
