#!/usr/bin/env python
"""What it takes to let modalities take part, method by method: parameters that train, bits that are sent."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.experiments.alignment_cost import MODALITIES, parameter_lines, payload_lines, tables
from opencood.tools._cli import Parser, only_warnings, run


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--modalities", nargs="+", default=list(MODALITIES), metavar="M", help="who joins; default: %(default)s"
    )
    parser.add_argument("--translator", default="convnext", help="kind of CodeAlign's translator (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="tables for a document")
    given = parser.parse_args(argv)
    with only_warnings():
        lines = tables(parameter_lines(given.modalities, given.translator), payload_lines(), given.markdown)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    run(main)
