"""What inference decides before it runs: fusion method, agents, range, file names; and how late fusion sends boxes."""

import pytest
import torch
from torch import nn

from opencood.batch import to_device
from opencood.communication import Channel
from opencood.errors import ConfigError
from opencood.experiments.devices import choose_device
from opencood.experiments.fusion_methods import METHODS, check_agents, choose_method, detect, parse_agents
from opencood.experiments.results import infer_info
from opencood.experiments.run_folder import RangeChoice
from opencood.experiments.steps import Journal

FULL = (-102.4, -51.2, -3.0, 102.4, 51.2, 1.0)


def hypes(core_method: str) -> dict:
    return {"fusion": {"core_method": core_method}}


@pytest.mark.parametrize(
    ("core_method", "method"),
    [
        ("late", "late"),
        ("lateheter", "late"),
        ("LateFusionDataset", "late"),
        ("early", "early"),
        ("intermediateheter", "intermediate"),
        ("intermediate2stage", "intermediate"),
    ],
)
def test_without_a_request_the_configuration_decides(core_method, method):
    assert choose_method(None, hypes(core_method)).name == method


@pytest.mark.parametrize(
    ("requested", "core_method"), [("late", "intermediateheter"), ("no", "early"), ("early", "late")]
)
def test_a_contradiction_is_refused_with_the_reason_and_the_way_out(requested, core_method):
    with pytest.raises(ConfigError) as refused:
        choose_method(requested, hypes(core_method))
    assert core_method in str(refused.value)
    assert "--agents ego" in str(refused.value)


def test_an_unknown_method_gets_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'intermediate'"):
        choose_method("intermediat", hypes("intermediate"))
    with pytest.raises(ConfigError, match="no fusion family"):
        choose_method(None, hypes("something"))


@pytest.mark.parametrize(("text", "count"), [("ego", 1), ("3", 3), (2, 2), ("1..4", 4), (None, None), ("all", None)])
def test_agents(text, count):
    assert parse_agents(text) == count


@pytest.mark.parametrize("text", ["0", "2..3", "ego,2", "many", "-1"])
def test_bad_agents(text):
    with pytest.raises(ConfigError, match="--agents"):
        parse_agents(text)


def test_agents_beyond_the_ego_contradict_a_method_that_runs_it_alone():
    check_agents(METHODS["no"], 1)
    check_agents(METHODS["late"], 3)
    with pytest.raises(ConfigError, match="--fusion_method late --agents 3"):
        check_agents(METHODS["single"], 3)


def test_published_names():
    heterogeneous = RangeChoice(FULL, FULL, "configuration", heterogeneous=True)
    homogeneous = RangeChoice(FULL, FULL, "configuration", heterogeneous=False)
    assert infer_info("intermediate", "_note", heterogeneous, 23) == "intermediate_note_102.4_51.2_epoch23"
    assert infer_info("late", "", homogeneous, 1) == "late_epoch1"
    assert infer_info("late", "", homogeneous, 1, agents=2) == "late_epoch1_use_cav2"


def test_a_replaced_range_is_told():
    replaced = RangeChoice(FULL, (-25.6,) * 6, "published default of heal", heterogeneous=True)
    assert "published default of heal" in replaced.notes()[0]
    assert RangeChoice(FULL, FULL, "configuration", True).notes() == []


class Numbered(nn.Module):
    """A detector whose outputs say which agent it ran on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, entry):
        self.seen.append(entry["number"])
        return {"cls_preds": torch.full((1, 2, 1, 1), float(entry["number"])), "reg_preds": torch.zeros(1, 14, 1, 1)}


def reduce(outputs):
    count = int(outputs["cls_preds"].flatten()[0]) + 1
    return {"cls_preds": outputs["cls_preds"].reshape(-1)[:1].repeat(count).reshape(1, 1, 1, -1),
            "reg_preds": torch.arange(7.0 * count).reshape(1, count, 7)}  # fmt: skip


def run(method: str, agents: int | None = None):
    model, channel = Numbered(), Channel(agents=agents)
    channel.meter.start_frame()
    batch = {name: {"number": number} for number, name in enumerate(("ego", "641", "650"))}
    seen, outputs = detect(METHODS[method], model, batch, channel, reduce)
    return model.seen, seen, outputs, channel.meter.bytes_of_frame()


def test_late_runs_every_agent_and_sends_boxes():
    ran, seen, outputs, sent = run("late")
    assert ran == [0, 1, 2]
    assert list(seen) == list(outputs) == ["ego", "641", "650"]
    assert outputs["650"]["reg_preds"].shape == (1, 3, 7)
    assert outputs["650"]["cls_preds"].flatten().tolist() == [2.0, 2.0, 2.0]
    assert sent > 4 * 8 * (2 + 3)


def test_late_with_fewer_agents_keeps_the_ground_truth_of_all():
    ran, seen, outputs, sent = run("late", agents=2)
    assert ran == [0, 1]
    assert list(seen) == ["ego", "641", "650"]
    assert list(outputs) == ["ego", "641"]


def test_no_and_single_run_the_ego_alone_and_send_nothing():
    ran, seen, outputs, sent = run("no")
    assert (ran, list(seen), list(outputs), sent) == ([0], ["ego", "641", "650"], ["ego"], 0)
    ran, seen, outputs, sent = run("single")
    assert (ran, list(seen), list(outputs), sent) == ([0], ["ego"], ["ego"], 0)


def test_ego_of_late_equals_no_fusion():
    assert run("late", agents=1)[2].keys() == run("no")[2].keys()


def test_devices():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="--device"):
        choose_device("cuda:99")
    moved = to_device({"a": [torch.ones(1), "text"], "b": None}, torch.device("cpu"))
    assert moved["a"][1] == "text"


def test_a_journal_does_each_step_once_until_its_inputs_change(tmp_path):
    done = []

    def steps(size: int) -> None:
        journal = Journal(tmp_path, total=2)
        journal.run("first", {"size": size}, lambda: done.append("first"))
        assert journal.run("second", None, lambda: done.append("second") or {"answer": 42}) == {"answer": 42}

    steps(1)
    steps(1)
    assert done == ["first", "second"]
    steps(2)
    assert done == ["first", "second"] * 2
