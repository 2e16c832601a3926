"""Rates: closed forms, published resume, and the recorded numbers where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from opencood.errors import ConfigError
from opencood.training.schedules import build_schedule, closed_form_epoch

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
E2E = sorted(path.parent for path in GOLDEN.glob("e2e/*/case.npz"))
COOPRE = sorted(path.parent for path in GOLDEN.glob("coopre/lr_*/case.npz"))


@pytest.mark.parametrize("case", E2E, ids=lambda case: case.name)
def test_recorded_rates(case):
    hypes = yaml.safe_load((case / "case.yaml").read_text())["hypes"]
    schedule, base = build_schedule(hypes["lr_scheduler"]), hypes["optimizer"]["lr"]
    with np.load(case / "case.npz") as stored:
        recorded = {name.removeprefix("out/lr/"): stored[name] for name in stored.files if name.startswith("out/lr/")}
    for name, want in recorded.items():
        first = 0 if name == "epoch_0_29" else int(name.removeprefix("resume_from_"))
        got = [schedule(base, closed_form_epoch(epoch, first)) for epoch in range(first, 30)]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", COOPRE, ids=lambda case: case.name)
def test_recorded_cosine(case):
    content = yaml.safe_load((case / "case.yaml").read_text())
    schedule, base = build_schedule(content["lr_scheduler"]), content["optimizer"]["lr"]
    n = content["iterations_per_epoch"]
    with np.load(case / "case.npz") as stored:
        epochs = [
            schedule(base, closed_form_epoch(e, before_epoch=True)) for e in range(len(stored["out/lr_per_epoch"]))
        ]
        steps = [schedule(base, step / n) for step in range(len(stored["out/lr_per_step"]))]
        np.testing.assert_allclose(epochs, stored["out/lr_per_epoch"], atol=1e-7)
        np.testing.assert_allclose(steps, stored["out/lr_per_step"], atol=1e-7)
        assert schedule(base, 0) == pytest.approx(float(stored["out/lr_initial"]), abs=1e-7)


@pytest.mark.parametrize(
    ("section", "theirs"),
    [
        ({"core_method": "step", "step_size": 3, "gamma": 0.5}, lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
        (
            {"core_method": "multistep", "step_size": [2, 5], "gamma": 0.1},
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.1),
        ),
        ({"core_method": "exponential", "gamma": 0.9}, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
    ],
)
def test_closed_forms_are_those_of_torch(section, theirs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    reference, schedule = theirs(optimizer), build_schedule(section)
    for epoch in range(8):
        assert schedule(0.2, epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        reference.step()


def test_milestones_take_effect_one_epoch_late():
    schedule = build_schedule({"core_method": "multistep", "step_size": [10, 25], "gamma": 0.1})
    rates = [schedule(1.0, closed_form_epoch(epoch)) for epoch in range(30)]
    assert [epoch for epoch in range(1, 30) if rates[epoch] < rates[epoch - 1]] == [11, 26]


def test_a_published_resume_is_one_epoch_early_once():
    assert [closed_form_epoch(epoch, first_epoch=6) for epoch in (6, 7, 8)] == [6, 6, 7]
    assert [closed_form_epoch(epoch) for epoch in (0, 1, 2)] == [0, 0, 1]


def test_without_a_section_the_rate_is_constant():
    assert build_schedule(None)(0.3, 17) == 0.3


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"core_method": "multistp", "step_size": [1], "gamma": 0.1}, "Did you mean 'multistep'"),
        ({"core_method": "multistep", "step_size": 10, "gamma": 0.1}, "step_size: expected a list, found 10"),
        ({"core_method": "step", "step_size": [10], "gamma": 0.1}, "step_size: expected a whole number"),
        ({"core_method": "exponential"}, "gamma"),
        ({"gamma": 0.1}, "lr_scheduler.core_method"),
    ],
)
def test_what_is_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        build_schedule(section)
