"""Data pickles: plain values and arrays are read, anything that could run code is refused."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opencood.data.safe_pickle import load_pickle
from opencood.errors import DataError

PLAIN = {
    "numbers": [1, 2.5, True, None, 3 + 4j],
    "text": "ä",
    "bytes": b"\x00\xff",
    "array": np.arange(12.0).reshape(3, 4).T,
    "names": np.array(["car", "bus"]),
    "scalar": np.float32(2.5),
    "objects": np.array([{"a": 1}, None], dtype=object),
    "set": {1, 2},
}


class Trap:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_are_read(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps(PLAIN, protocol))
    found = load_pickle(file)
    assert found.keys() == PLAIN.keys()
    for name, value in PLAIN.items():
        np.testing.assert_array_equal(found[name], value)
        assert type(found[name]) is type(value)


def test_the_old_home_of_numpy_is_known(tmp_path: Path) -> None:
    file = tmp_path / "a.pkl"
    written = pickle.dumps(np.arange(3), 2)
    file.write_bytes(written.replace(b"numpy._core.", b"numpy.core."))
    np.testing.assert_array_equal(load_pickle(file), np.arange(3))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "touch trapped"), "system"),
        ((eval, "open('trapped', 'w')"), "eval"),
        ((getattr, "text", "format"), "getattr"),
        ((__import__, "os"), "__import__"),
        ((np.load, "a.npy", None, True), "load"),
        ((np.fromfile, "a.npy"), "fromfile"),
        ((Path, "x"), "Path"),
        ((collections.OrderedDict,), "OrderedDict"),
    ],
)
def test_everything_else_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, call: tuple[Any, ...], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps([1, Trap(*call)], protocol))
    with pytest.raises(DataError, match=rf"root_dir: .*a\.pkl: the pickle asks for .*{name}; only plain values"):
        load_pickle(file, "root_dir: ")
    assert not (tmp_path / "trapped").exists()


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.pkl"
    with pytest.raises(DataError, match=r"a\.pkl: cannot be read"):
        load_pickle(file)
    whole = pickle.dumps(PLAIN)
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.pkl: no readable pickle"):
            load_pickle(file)
