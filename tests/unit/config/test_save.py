"""Saving: plain YAML, all at once, the same map again."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.config.loader import load_mapping, load_yaml
from opencood.config.save import digest, save_config, to_plain
from opencood.errors import ConfigError, StorageError

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["1e-10", "None", "null", "yes", "0x1", "1:30", "2021_08_22", "- a", "*x", "&x", "!t", "_x_"])
)
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_1", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=100)
@given(args=st.dictionaries(st.text("abc_1", min_size=1, max_size=4), plain, max_size=4))
def test_reload_gives_the_same_map(tmp_path_factory: Any, sample: Any, args: dict) -> None:
    hypes = load_mapping(sample(loss={"core_method": "x", "args": args}))
    folder = tmp_path_factory.mktemp("run")
    save_config(hypes, folder)
    assert load_yaml(None, model_dir=folder) == hypes


def test_the_file_is_plain_and_readable_by_any_yaml_reader(tmp_path: Path, sample: Any) -> None:
    shared = [1, 2]
    hypes = sample(
        add_data_extension=shared,
        comm_range=np.float64(70.5),
        noise_setting=OrderedDict(add_noise=False, args={}),
        optimizer={
            "core_method": "Adam",
            "lr": 1e-10,
            "args": {"a": shared, "shape": (3, np.int64(4)), "b": np.arange(3)},
        },
    )
    path = save_config(hypes, tmp_path / "new" / "run")
    text = path.read_text()
    assert not any(mark in text for mark in ("!!", "&id", "*id", "python"))
    loaded = yaml.safe_load(text)
    assert loaded["optimizer"] == {
        "core_method": "Adam",
        "lr": 1e-10,
        "args": {"a": [1, 2], "shape": [3, 4], "b": [0, 1, 2]},
    }
    assert list(loaded) == sorted(loaded)
    assert loaded["opencood_version"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.yaml"]


def test_saving_changes_nothing_in_the_map(sample: Any) -> None:
    hypes = sample(comm_range=(1, 2))
    to_plain(hypes)
    assert hypes["comm_range"] == (1, 2)


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.args\.2: a object cannot be saved"):
        save_config({"model": {"args": [1, 2, object()]}}, tmp_path)
    with pytest.raises(ConfigError, match="key"):
        save_config({("a",): 1}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, sample: Any, monkeypatch: Any) -> None:
    save_config(sample(name="old"), tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match="No space left"):
        save_config(sample(name="new"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
    assert load_yaml(None, model_dir=tmp_path)["name"] == "old"


def test_a_folder_that_is_a_file(tmp_path: Path, sample: Any) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StorageError):
        save_config(sample(), tmp_path / "run")


def test_infinities_survive(tmp_path: Path, sample: Any) -> None:
    save_config(sample(loss={"core_method": "x", "args": {"inf": math.inf, "low": -math.inf}}), tmp_path)
    assert load_yaml(None, model_dir=tmp_path)["loss"]["args"] == {"inf": math.inf, "low": -math.inf}


def test_digest_ignores_what_we_add(sample: Any) -> None:
    hypes = load_mapping(sample())
    assert digest(hypes) == digest({**hypes, "flavor": "heal", "parity": "fixed", "opencood_version": "9"})
    assert digest(hypes) != digest({**hypes, "comm_range": 71})
    assert digest({"a": {1: (1, 2)}}) == digest({"a": {"1": [1, 2]}})
