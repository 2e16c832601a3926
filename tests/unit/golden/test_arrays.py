"""Nested keys, index expressions, statistics, packing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.arrays import flatten, nest, pack, parse_index, statistics

leaf = st.integers(0, 9).map(float)
tree = st.recursive(
    leaf,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from("xyz"), tree, min_size=1))
def test_nest_undoes_flatten(value: dict) -> None:
    flat = flatten(value)
    arrays = {name: np.asarray(item) for name, item in flat.items()}
    again = flatten(nest(arrays), keep=arrays)
    assert again.keys() == flat.keys()


def test_names_that_are_stored_stay_whole() -> None:
    ragged = {"record": [[1, 2], [3, 4]], "occ": [np.zeros(2), np.ones(3)]}
    assert set(flatten(ragged, keep={"record"})) == {"record", "occ/0", "occ/1"}


def test_agent_ids_are_not_list_positions() -> None:
    assert nest({"311/x": 1, "0/x": 2}) == {"311": {"x": 1}, "0": {"x": 2}}
    assert nest({"0/x": 1, "1/x": 2}) == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("[:, ::3, 1:4]", (slice(None), slice(None, None, 3), slice(1, 4))),
        ("[..., ::6, ::-2]", (Ellipsis, slice(None, None, 6), slice(None, None, -2))),
        ("[2, -1]", (2, -1)),
    ],
)
def test_index_expressions(text: str, index: tuple) -> None:
    assert parse_index(text) == index


@pytest.mark.parametrize("text", [":, 1", "[__import__('os')]", "[1:2:3:4]", "[]"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_index(text)


def test_statistics_and_packing() -> None:
    image = np.arange(2 * 3 * 12 * 14, dtype=np.float32).reshape(2, 3, 12, 14)
    points = np.arange(1 * 11 * 3, dtype=np.float32).reshape(1, 11, 3)
    np.testing.assert_allclose(statistics(np.array([1.0, -3.0])), [-1.0, 2.0, 4.0])
    assert pack(image, "s6").shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(pack(points, "s5"), points[0, ::5])
    np.testing.assert_array_equal(pack(image, "sum"), image.sum(axis=1))
    assert pack(np.zeros((0, 3)), "stat").tolist() == [0, 0, 0]
