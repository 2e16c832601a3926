#!/usr/bin/env python
"""Gather the tables that recipes and sweeps published into one Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run


def parser() -> Parser:
    """All arguments."""
    made = Parser(description=__doc__)
    made.add_argument("folder", type=Path, nargs="?", default=Path("benchmarks/results/claims"), help="kept tables")
    made.add_argument("--out", type=Path, default=Path("docs/results.md"), help="the page (default: docs/results.md)")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Gather, write, say where."""
    given = parser().parse_args(argv)
    from opencood.experiments.published import write_page

    print(write_page(given.folder, given.out))


if __name__ == "__main__":
    run(main)
