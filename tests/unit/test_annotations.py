"""Which YAML values an annotation accepts, and what the message says when it does not."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from opencood.annotations import expected
from opencood.errors import ConfigError
from opencood.registry import Registry

GOOD = [
    ("int", 3), ("int", np.int64(3)), ("float", 3), ("float", 0.5), ("bool", True), ("bool", 1), ("str", "x"),
    ("int | None", None), ("Sequence[int]", [1, 2]), ("Sequence[float]", (1, 0.5)), ("Sequence[int]", np.arange(3)),
    ("Mapping[str, Any]", {}), ("list[dict[str, int]]", [1]), ("SomethingElse", object()), (int, 3),
    ("Sequence[int | None] | None", "anything"), (inspect.Parameter.empty, object()),
]  # fmt: skip
BAD = [
    ("int", 0.5, "a whole number"),
    ("int", True, "a whole number"),
    ("int", "3", "a whole number"),
    ("float", "1e-3", "a number"),
    ("bool", 2, "true or false"),
    ("str", 5, "text"),
    ("int | None", "x", "a whole number or null"),
    ("Sequence[int]", "12", "a list"),
    ("Sequence[int]", [1, "x"], "a list whose items are each a whole number"),
    ("Mapping[str, Any]", [1], "a map"),
    (int, "x", "a whole number"),
]


@pytest.mark.parametrize(("annotation", "value"), GOOD)
def test_what_fits(annotation: Any, value: Any) -> None:
    assert expected(annotation, value) is None


@pytest.mark.parametrize(("annotation", "value", "words"), BAD)
def test_what_does_not_fit(annotation: Any, value: Any, words: str) -> None:
    assert expected(annotation, value) == words


def test_a_registry_refuses_arguments_of_another_kind() -> None:
    registry = Registry()

    @registry.register("thing", "one")
    def one(size: int, names: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> int:
        return size

    assert registry.build("thing", "one", {"size": 2}, where="things") == 2
    for arguments, message in (
        ({"size": "big"}, r"things\.size: expected a whole number, found 'big'"),
        ({"size": 1, "names": [1]}, r"things\.names: expected a list whose items are each text"),
        ({"size": 1, "options": 5}, r"things\.options: expected a map or null"),
        (5, r"things: expected a map of arguments, found 5"),
    ):
        with pytest.raises(ConfigError, match=message):
            registry.build("thing", "one", arguments, where="things")  # type: ignore[arg-type]
