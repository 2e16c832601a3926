"""The YAML dialect: floats, allowed tags, and clear refusals with file and line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.config.dialect import HypesDumper, HypesLoader
from opencood.config.reader import read_document
from opencood.errors import ConfigError


def load(text: str) -> object:
    return yaml.load(text, Loader=HypesLoader)


def read(tmp_path: Path, text: str) -> dict:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path).data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-10", 1e-10),
        ("2e-4", 2e-4),
        ("1E5", 1e5),
        ("-3e+2", -300.0),
        ("1.5e3", 1500.0),
        (".5e1", 5.0),
        ("1_000.0", 1000.0),
        ("2.", 2.0),
        (".inf", math.inf),
        ("1:30.5", 90.5),
    ],
)
def test_floats_of_the_dialect(text: str, value: float) -> None:
    assert load(f"x: {text}") == {"x": value}


@pytest.mark.parametrize("text", ["e10", "1e", "m1", "net_epoch1", "0x1e-", "1e5x", "None"])
def test_texts_stay_texts(text: str) -> None:
    assert load(f"x: {text}") == {"x": text}


def test_integers_stay_integers() -> None:
    loaded = load("x: 12")
    assert loaded == {"x": 12}
    assert isinstance(loaded["x"], int)


def test_the_rest_of_the_process_parses_as_before() -> None:
    assert yaml.safe_load("x: 1e-10") == {"x": "1e-10"}


SAVED_CONFIG = """
label_shape: !!python/tuple [256, 128, 7]
noise_setting: !!python/object/apply:collections.OrderedDict
- - - add_noise
    - false
grid_size: !!python/object/apply:{module}._reconstruct
  args:
  - !!python/name:numpy.ndarray ''
  - !!python/tuple
    - 0
  - !!binary |
    Yg==
  state: !!python/tuple
  - 1
  - !!python/tuple
    - 3
  - &id001 !!python/object/apply:numpy.dtype
    args:
    - i8
    - false
    - true
    state: !!python/tuple
    - 3
    - <
    - null
    - null
    - null
    - -1
    - -1
    - 0
  - false
  - !!binary |
    AAIAAAAAAAAAAQAAAAAAAAEAAAAAAAAA
"""


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_saved_configuration_with_object_tags(tmp_path: Path, module: str) -> None:
    data = read(tmp_path, SAVED_CONFIG.replace("{module}", module))
    assert data == {"label_shape": [256, 128, 7], "noise_setting": {"add_noise": False}, "grid_size": [512, 256, 1]}


@pytest.mark.parametrize(
    "value", [np.float64(0.4), np.float32(1.5), np.int64(512), np.array([[1, 2], [3, 4]]), np.arange(3.0)]
)
def test_what_numpy_dumps_loads_as_plain_numbers(tmp_path: Path, value: object) -> None:
    data = read(tmp_path, yaml.dump({"x": value, "y": (1, 2)}, Dumper=yaml.Dumper))
    assert data == {"x": value.tolist(), "y": [1, 2]}


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system",
        "!!python/name:os.system",
        "!!python/object/new:pathlib.Path",
        "!!python/module:os",
        "!!set",
        "!local",
    ],
)
def test_other_tags_are_refused_with_file_and_line(tmp_path: Path, tag: str) -> None:
    with pytest.raises(ConfigError, match=r"file\.yaml:3: .*not allowed"):
        read(tmp_path, f"a: 1\nb: 2\nc: {tag} [echo]\n")


def test_a_numpy_type_of_objects_is_refused(tmp_path: Path) -> None:
    prefix = "!!python/object/apply:numpy"
    text = f"x: {prefix}.core.multiarray.scalar\n- {prefix}.dtype [O]\n- !!binary Yg==\n"
    with pytest.raises(ConfigError, match=r"file\.yaml:2"):
        read(tmp_path, text)


def test_bytes_are_refused_outside_numpy_objects(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file\.yaml:2: bytes"):
        read(tmp_path, "a: 1\nb: !!binary Yg==\n")


def test_a_damaged_array_is_a_clear_error(tmp_path: Path) -> None:
    text = "x: !!python/object/apply:numpy.core.multiarray._reconstruct\n- 1\n"
    with pytest.raises(ConfigError, match=r"file\.yaml:1: unreadable value"):
        read(tmp_path, text)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text(max_size=6), plain, max_size=5))
def test_what_is_dumped_is_loaded(content: dict) -> None:
    assert load(yaml.dump(content, Dumper=HypesDumper, allow_unicode=True)) == content


@given(st.sampled_from(["1e5", "1e-10", "2E3", "-1e+2", ".5e1"]))
def test_texts_that_look_like_floats_are_quoted(text: str) -> None:
    assert load(yaml.dump({"x": text}, Dumper=HypesDumper)) == {"x": text}
