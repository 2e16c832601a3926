"""Two processes are one: losses, gradients, statistics, files."""

import numpy as np
import pytest
import torch

from opencood.errors import ConfigError
from opencood.losses.point_pillar import PointPillarDepthLoss
from opencood.training.distributed import World, join_world
from opencood.training.optimizers import build_optimizer
from opencood.training.step import Criterion, Stepper
from tests.unit.training.processes import in_processes
from tests.unit.training.toy import OPTIMIZER, ToyDataset, toy_loss, toy_model, toy_trainer

torch.set_num_threads(1)


def loss_with_depth():
    return PointPillarDepthLoss(
        2.0, {"alpha": 0.25, "gamma": 2.0, "weight": 1.0}, {"sigma": 3.0, "weight": 2.0}, depth={"weight": 1.0}
    )


class DepthDetector(torch.nn.Module):
    """The toy with a depth output for the samples of a camera; a batch may have none."""

    def __init__(self, frozen_norm):
        super().__init__()
        self.toy = toy_model(frozen_norm=frozen_norm)
        self.depth = torch.nn.Conv2d(3, 4, 1)

    def forward(self, ego):
        outputs = self.toy(ego)
        cameras = ego["x"][ego["camera"]].to(self.depth.weight.dtype)
        if len(cameras):
            outputs["depth_items_m2"] = (self.depth(cameras), torch.ones(len(cameras), *cameras.shape[2:]).long())
        return outputs


def ego_of(indices, dataset=None, cameras=()):
    dataset = dataset or ToyDataset()
    ego = dataset.collate_batch_train([dataset[index] for index in indices])["ego"]
    return {**ego, "camera": torch.tensor([index in cameras for index in indices])}


def one_step(world, model, loss, ego, supervise_single=True):
    """Losses, gradients and running statistics of one step."""
    model.train()
    optimizer = build_optimizer(model, {**OPTIMIZER, "lr": 0.0})
    stepper = Stepper(model, optimizer, Criterion(loss, supervise_single, 0.5), world)
    report = stepper(ego)
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}
    statistics = {name: b.numpy().copy() for name, b in model.named_buffers()}
    return report, gradients, statistics


def depth_step(world, shares, frozen_norm, double):
    torch.manual_seed(0)
    model = DepthDetector(frozen_norm)
    model = model.double() if double else model
    indices = shares[world.rank]
    return one_step(world, model, loss_with_depth(), None if indices is None else ego_of(indices, cameras={3, 4, 5}))


def assert_same(got, want, tolerance):
    assert got.keys() == want.keys()
    whole = np.sqrt(sum(np.linalg.norm(value) ** 2 for value in want.values()))
    for name in want:
        # A bias before batch norm has a true gradient of zero: nothing but rounding, hence the floor.
        scale = max(np.linalg.norm(want[name]), 0.1 * whole)
        assert np.linalg.norm(got[name] - want[name]) <= tolerance * scale, name


def assert_same_losses(got, want, tolerance=1e-6):
    assert got.keys() == want.keys()
    for suffix, (loss, terms) in want.items():
        assert got[suffix][0] == pytest.approx(loss, rel=tolerance)
        assert got[suffix][1] == pytest.approx(terms, rel=tolerance)


FROZEN = [[0, 1, 3], [4, 5]]  # unequal shares, most cameras on the second rank: averages need the counts of both
HALVES = [[0, 3], [4, 5]]
UNFAIR = [[0, 1, 3], [4]]


def plain_step(world, shares):
    def loss(outputs, targets, suffix=""):
        total = outputs["cls_preds" + suffix].square().mean()
        return total, {"total_loss": total.detach()}

    return one_step(world, toy_model(frozen_norm=True), loss, ego_of(shares[world.rank]))


def whole_run(world, folder, frozen_norm, empty=()):
    model = toy_model(frozen_norm=frozen_norm)
    dataset = ToyDataset(8, empty=empty)
    batch = 2 // world.size
    trainer = toy_trainer(folder, dataset, ToyDataset(4), model, toy_loss(), epochs=2, batch_size=batch, world=world)
    ended = trainer.fit()
    return ended.best_loss, {name: value.numpy() for name, value in model.state_dict().items()}


def everything(world, folder):
    """All that the tests below look at, so that the processes start only once."""
    return {
        "frozen": depth_step(world, FROZEN, True, False),
        "frozen in double": depth_step(world, FROZEN, True, True),
        "halves": depth_step(world, HALVES, False, False),
        "one empty": depth_step(world, [HALVES[0], None], False, False),
        "plain": plain_step(world, UNFAIR),
        "run": whole_run(world, folder / "run", True),
        "run with empty batches": whole_run(world, folder / "empty", False, {1, 2, 5}),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two_processes")


@pytest.fixture(scope="module")
def ranks(folder):
    return in_processes(everything, 2, folder)


@pytest.mark.parametrize("kind", ["frozen", "frozen in double"])
def test_frozen_norm_equals_the_concatenated_batch(ranks, kind):
    report, gradients, _ = depth_step(World(), [FROZEN[0] + FROZEN[1]], True, "double" in kind)
    for rank in ranks:
        assert_same_losses(rank[kind][0], report)
        assert_same(rank[kind][1], gradients, 1e-6)
    assert "toy.never.weight" not in gradients


def test_training_norm_equals_accumulated_halves(ranks):
    torch.manual_seed(0)
    model, loss = DepthDetector(False), loss_with_depth()
    model.train()
    halves = [ego_of(indices, cameras={3, 4, 5}) for indices in HALVES]
    criterion = Criterion(loss, True, 0.5)
    own = [{s: loss.parts(model(half), t, s) for s, t in criterion.calls(half).items()} for half in halves]
    for half in own:
        shares = {}
        for suffix, parts in half.items():
            counts = {key: sum(other[suffix][key].count for other in own if key in other[suffix]) for key in parts}
            shares[suffix] = loss.combine(parts, counts)
        criterion.total(shares).backward()
    want = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    for rank in ranks:
        assert_same(rank["halves"][1], want, 1e-6)


def test_a_rank_without_objects_has_weight_zero(ranks):
    report, gradients, statistics = depth_step(World(), [HALVES[0]], False, False)
    for rank in ranks:
        got_report, got_gradients, got_statistics = rank["one empty"]
        assert_same_losses(got_report, report)
        assert_same(got_gradients, gradients, 1e-6)
        assert_same(got_statistics, statistics, 1e-6)


def test_a_loss_without_parts_is_weighted_by_samples(ranks):
    report, gradients, _ = plain_step(World(), [UNFAIR[0] + UNFAIR[1]])
    for rank in ranks:
        assert_same_losses(rank["plain"][0], report)
        assert_same(rank["plain"][1], gradients, 1e-6)


def test_a_whole_run_in_two_processes_equals_one(ranks, folder, tmp_path):
    loss, weights = whole_run(World(), tmp_path, True)
    for rank in ranks:
        assert rank["run"][0] == pytest.approx(loss, rel=1e-5)
        assert_same(rank["run"][1], weights, 1e-4)
    one, two = (sorted(path.name for path in place.iterdir()) for place in (tmp_path, folder / "run"))
    assert [name for name in one if "events" not in name] == [name for name in two if "events" not in name]
    assert sum("events" in name for name in two) == 1  # rank 0 alone writes


def test_statistics_stay_equal_on_all_ranks(ranks):
    (loss_a, a), (loss_b, b) = (rank["run with empty batches"] for rank in ranks)
    assert loss_a == loss_b
    assert_same(a, b, 0.0)


def test_without_a_launcher_a_run_is_one_process():
    world = join_world("cpu", environment={})
    assert (world.rank, world.size, world.is_main) == (0, 1, True)
    assert world.gather("x") == ["x"] and world.sum_by_key({"a": 1}) == {"a": 1}


def test_cuda_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cpu"):
        join_world("cuda", environment={})


def test_more_processes_than_gpus_are_refused_with_the_number_that_works(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    environment = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    with pytest.raises(ConfigError, match="2 processes.*1 GPU.*--nproc_per_node=1"):
        join_world(environment=environment)
