#!/usr/bin/env python
"""Count, at published size, what adding a modality trains and what agents send: CodeAlign beside other methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, only_warnings, run


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, or write them as Markdown."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the tables there instead")
    options = parser.parse_args(argv)
    from opencood.experiments.codealign_costs import as_text, write_markdown

    with only_warnings():
        print(as_text() if options.out is None else write_markdown(options.out))


if __name__ == "__main__":
    run(main)
