"""Arguments about what happens to messages on their way, shared by the inference tools."""

from __future__ import annotations

import argparse
from typing import Any

from opencood.tools._cli import number

NAMES = ("drop", "bit_error", "precision", "budget")


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Add the group."""
    group = parser.add_argument_group("channel", "what happens to every message; each replaces the configuration's own")
    group.add_argument("--drop", type=number(0, 1), metavar="P", help="probability that a message is lost")
    group.add_argument(
        "--bit_error", type=number(0, 0.5), metavar="P", help="probability that a bit of a value or a word is wrong"
    )
    group.add_argument(
        "--precision",
        choices=("float32", "float16", "bfloat16", "int16", "int8"),
        help="of values on the wire; int8 and int16 are steps of the range of each channel",
    )
    group.add_argument("--budget", type=number(0), metavar="KB", help="kilobytes that a message may have")


def take_channel(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Remove the group from parsed arguments; return its section ``channel``, or None when nothing was asked for."""
    given = {name: arguments.pop(name) for name in NAMES}
    return {name: value for name, value in given.items() if value is not None} or None
