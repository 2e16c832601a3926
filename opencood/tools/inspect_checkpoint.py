#!/usr/bin/env python
"""Show modules, shapes, parameter counts and epoch of a checkpoint, or the differences between two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, at_least, run


def parser() -> Parser:
    """All arguments."""
    made = Parser(description=__doc__)
    made.add_argument("checkpoint", type=Path, help="a .pth file, last.ckpt, or a run folder")
    made.add_argument("other", type=Path, nargs="?", help="compare with this one")
    made.add_argument("--depth", type=at_least(1), default=1, metavar="N", help="so many name parts make a module")
    made.add_argument("--shapes", action="store_true", help="list every entry with its shape and type")
    made.add_argument(
        "--rename", nargs="+", default=[], metavar="OLD=NEW", help="beginnings of names of the first, for comparing"
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, read, print."""
    given = parser().parse_args(argv)
    from opencood.experiments import checkpoint_view as view

    first = view.open_checkpoint(given.checkpoint)
    if given.other is None:
        print("\n".join(view.description(first, given.depth, given.shapes)))
    else:
        second = view.open_checkpoint(given.other)
        print("\n".join(view.differences(first, second, view.parse_renames(given.rename), given.depth)))


if __name__ == "__main__":
    run(main)
