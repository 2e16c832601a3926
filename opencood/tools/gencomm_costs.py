#!/usr/bin/env python
"""Count, at published size, what it costs that one more type of agents joins: GenComm beside its baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, only_warnings, run


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, or write it as Markdown."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table there instead")
    options = parser.parse_args(argv)
    from opencood.experiments.gencomm_costs import lines, write_markdown

    with only_warnings():
        print("\n".join(lines()) if options.out is None else write_markdown(options.out))


if __name__ == "__main__":
    run(main)
