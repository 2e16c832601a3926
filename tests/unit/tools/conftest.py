"""What the tests of command lines share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from opencood.tools._cli import Parser

Parsed = Callable[..., tuple[Parser, argparse.Namespace]]


class Seen(Exception):
    """The arguments that a tool would have read."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    """Call a tool; returns its parser and what it read, without going on."""
    real = Parser.parse_args
    caught: list[Any] = []

    def parse_args(self: Parser, args: Any = None, namespace: Any = None) -> Any:
        caught[:] = [self, real(self, args, namespace)]
        raise Seen

    monkeypatch.setattr(Parser, "parse_args", parse_args)

    def call(tool: str, *words: str) -> tuple[Parser, argparse.Namespace]:
        with pytest.raises(Seen):
            import_module(f"opencood.tools.{tool.replace('/', '.')}").main(list(words))
        return caught[0], caught[1]

    return call
