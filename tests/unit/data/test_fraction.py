"""A share of the frames: which ones, as published, and that they are the frames of the whole data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opencood.config.loader import Hypes, load_mapping
from opencood.data.build import build_dataset
from opencood.data.fraction import ChosenFrames, chosen_frames
from opencood.errors import ConfigError
from opencood.experiments.build import build_training_set
from tests.golden.arrays import flatten

Write = Callable[..., Path]
Make = Callable[..., Any]


class Frames:
    """Stands for a data set of so many frames, ten in each scenario."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def frame(self, index: int) -> Any:
        return type("Frame", (), {"scenario": f"scenario {index // 10:03}"})()


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_the_published_draw(fraction: float) -> None:
    """int(N f) indices of NumPy's legacy generator, seeded with 42 (spec coopre.md 12)."""
    np.random.seed(42)
    wanted = np.random.choice(137, int(137 * fraction), replace=False).tolist()
    assert chosen_frames(Frames(137), fraction, 42, "frame") == wanted


def test_whole_scenarios() -> None:
    chosen = chosen_frames(Frames(100), 0.3, 42, "scenario")
    assert len(chosen) == 30 and len({index // 10 for index in chosen}) == 3
    assert chosen != chosen_frames(Frames(100), 0.3, 1, "scenario")


@pytest.mark.parametrize(
    ("fraction", "unit", "message"),
    [
        (0.0, "frame", "above 0 and at most 1"),
        (1.5, "frame", "found 1.5"),
        (0.1, "frame", "of 7 frame"),
        (0.5, "car", "none of"),
    ],
)
def test_shares_that_are_none(fraction: float, unit: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen_frames(Frames(7), fraction, 42, unit)


def test_a_sample_is_that_of_the_whole_data_set(folder: Write, hypes: Make) -> None:
    whole = build_dataset(hypes(folder()), train=True)
    chosen = ChosenFrames(whole, [1])
    chosen.reinitialize(3)
    assert len(chosen) == 1 and chosen.epoch == whole.epoch == 3
    ours, theirs = (flatten(sample["ego"]["parts"][0]) for sample in (chosen[0], whole[1]))
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    assert chosen.lines() == [f"1 {whole.frame(1).label}"]
    assert set(chosen.collate_batch_train([chosen[0]])) == {"ego"}


def test_training_uses_the_share_and_pretraining_everything(folder: Write, hypes: Make) -> None:
    content = load_mapping({**hypes(folder()), "train_params": {"max_cav": 5, "label_fraction": 0.5}})
    assert isinstance(content, Hypes)
    assert len(build_training_set(content)) == 1 < len(build_dataset(content, train=True))
    model = {"model": {"core_method": "masked_bev_pretrain", "args": {}}, "fusion": {"core_method": "early"}}
    assert len(build_training_set(content.replaced({**content, **model}))) == 2
