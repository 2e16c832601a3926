"""Every disturbance with every data set at hand and every kind of sample; ground truth stays that of clean poses."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opencood.config.overrides import with_range
from opencood.data.build import build_dataset
from opencood.data.dataset import CooperativeDataset
from opencood.errors import DataError
from opencood.experiments.simulate import SimulationOptions, simulate

Hypes = Callable[..., Any]
TINY = Path(__file__).resolve().parents[4] / "shared" / "data"
DAIR = TINY / "dair_v2x_tiny" / "cooperative-vehicle-infrastructure"
PLACES = {
    "opv2v": TINY / "opv2v_tiny" / "test",
    "dairv2x": DAIR / "val.json",
    "v2xsim": TINY / "v2xsim_tiny" / "v2xsim2_info" / "v2xsim_infos_test.pkl",
}
METHODS = ("early", "late", "intermediate", "intermediateheter")
PERTURBATIONS: dict[str, dict[str, Any]] = {
    "gaussian": {"pose_noise": {"pos_std": 0.3, "rot_std": 0.5}},
    "laplace": {"pose_noise": {"pos_std": 0.3, "rot_std": 0.5, "distribution": "laplace"}},
    "von_mises": {"pose_noise": {"pos_std": 0.3, "rot_std": 0.5, "distribution": "von_mises"}},
    "constant": {"localisation_error": {"xyz_std": 0.2, "ryp_std": 0.2, "constant": True}},
    "delay": {"delay": {"milliseconds": 100}},
    "pose_only": {"delay": {"milliseconds": 100, "pose_only": True}},
    "asynchrony": {"asynchrony": {"milliseconds": 90, "stamped": False}},
    "drop": {"drop_agents": {"probability": 1.0}},
    "fog": {"fog": {"visibility": 30}},
    "snow": {"snow": {"rate": 3.0}},
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world") / "data"
    simulate(SimulationOptions(out=root, preset="mini", scenarios=(1, 1, 1), seed=3))
    return root / "test"


@pytest.fixture(scope="module")
def classified(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scenarios with a type of every object, as V2X-Real has it."""
    root = tmp_path_factory.mktemp("classified")
    for scenario in simulated.iterdir():
        shutil.copytree(scenario, root / scenario.name)
    for file in root.glob("*/*/*.yaml"):
        document = yaml.safe_load(file.read_text())
        for vehicle in document["vehicles"].values():
            vehicle["obj_type"] = "Car"
        file.write_text(yaml.safe_dump(document))
    return root


@pytest.fixture
def content(simulated: Path, classified: Path, hypes: Hypes, monkeypatch: pytest.MonkeyPatch) -> Hypes:
    """``content(data set, method, **changes)`` -> a configuration with the last frame of a scenario in its reach."""
    monkeypatch.chdir(TINY.parent if TINY.is_dir() else simulated)

    def make(name: str, method: str, **changes: Any) -> Any:
        made_up = dict.fromkeys(("simulated", "v2xset", "v2v4real"), simulated) | {"v2xreal": classified}
        place = (made_up | PLACES)[name]
        if not place.exists():
            pytest.skip(f"{place} is not here")
        made = hypes(place, method, **changes)
        made["fusion"]["dataset"] = "opv2v" if name == "simulated" else name
        made["postprocess"]["max_num"] = 100
        made["data_dir"] = str(DAIR)
        made["path_prefixes"] = {"v2xsim_tiny": str(TINY / "v2xsim_tiny")}
        return with_range(made, 38.4, 38.4)

    return make


def truth(dataset: CooperativeDataset, sample: Any) -> np.ndarray:
    """(G, 8, 3) ground truth of a test sample, sorted."""
    batch = dataset.collate_batch_test([sample])
    assert batch is not None
    same = dataset.reader.conventions.common_ids
    processor = dataset.post_processor
    boxes = np.asarray((processor.generate_gt_bbx if same else processor.generate_gt_bbx_by_iou)(batch))
    return boxes[np.lexsort(boxes.mean(axis=1).round(2).T)]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from leaves(inner, f"{path}.{place}")
    else:
        yield path, value


def equal(one: Any, other: Any) -> bool:
    first, second = dict(leaves(one)), dict(leaves(other))
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *itertools.product(("simulated", "v2xset", "v2v4real", "v2xreal", "opv2v", "dairv2x", "v2xsim"), METHODS),
        *itertools.product(("simulated", "v2xsim"), ("lateheter", "intermediateheterinfer", "intermediate2stage")),
    ],
)
def test_truth_stays_and_samples_can_be_rebuilt_alone(content: Hypes, name: str, method: str) -> None:
    plain = build_dataset(content(name, method, parity="fixed"), train=False)
    index = len(plain) - 1
    clean = plain[index]
    wanted = truth(plain, clean)
    assert len(wanted)
    for label, section in PERTURBATIONS.items():
        changed = content(name, method, parity="fixed", perturb=section)
        if name == "dairv2x" and {"delay", "asynchrony"} & section.keys():
            with pytest.raises(DataError, match="data_info.json"):  # the small set has no time stamps
                build_dataset(changed, train=False)
            continue
        dataset = build_dataset(changed, train=False)
        sample = dataset[index]
        # Late fusion: boxes of a tilted agent lose their tilt in the ego's frame instead of its own when it is unheard.
        tolerance = 5e-2 if label == "drop" else 2e-3
        np.testing.assert_allclose(truth(dataset, sample), wanted, atol=tolerance, err_msg=label)
        assert equal(build_dataset(changed, train=False)[index], sample), label
        assert label == "asynchrony" or not equal(sample, clean), f"{label} changes nothing"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["simulated", "dairv2x", "v2xsim"])
def test_training_can_be_disturbed_as_well(content: Hypes, name: str, method: str) -> None:
    section = {
        "pose_noise": {"pos_std": 0.2},
        "drop_agents": {"probability": 0.5},
        "fog": {"visibility": 60},
        "snow": {},
    }
    changed = content(
        name, method, parity="fixed", perturb={key: {**args, "when": "train"} for key, args in section.items()}
    )
    dataset = build_dataset(changed, train=True)
    dataset.reinitialize(2)
    samples = [dataset[index] for index in (1, 0)]
    batch = dataset.collate_batch_train(samples)
    assert batch is not None and batch["ego"]["label_dict"]["pos_equal_one"].any()
    again = build_dataset(changed, train=True)
    again.reinitialize(2)
    assert equal(again[0], samples[1])
    tested, plain = (build_dataset(content(name, method, parity="fixed", **extra), train=False)[0]
                     for extra in ({"perturb": changed["perturb"]}, {}))  # fmt: skip
    assert equal(tested, plain), "when: train leaves testing alone"
