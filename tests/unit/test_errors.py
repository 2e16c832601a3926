"""Errors keep their message on the way from a loader worker to the user."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from opencood.errors import DataError, nearest

MESSAGE = "a.pcd: truncated; DataError: a colon and a class name in the message do no harm"


class Broken(Dataset):
    """A data set whose every sample is broken."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        try:
            raise OSError("the cause")
        except OSError as error:
            raise DataError(MESSAGE) from error


@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_hands_over_the_message_alone(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(DataLoader(Broken(), num_workers=workers))
    assert str(caught.value) == MESSAGE


def test_errors_travel_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(DataError("file: wrong")))
    assert isinstance(copy, DataError) and str(copy) == "file: wrong"


def test_the_nearest_name() -> None:
    assert nearest("comm_rang", ["comm_range", "seed"]) == " Did you mean 'comm_range'?"
    assert nearest("x", ["comm_range"]) == ""
