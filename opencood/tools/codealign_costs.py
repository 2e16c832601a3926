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
    from opencood.evaluation.files import write_text
    from opencood.evaluation.tables import markdown_table, text_table
    from opencood.experiments.codealign_costs import grids

    with only_warnings():
        tables = list(grids())
    if options.out is None:
        print("\n\n".join(f"{title}\n{text_table(header, lines)}" for title, header, lines in tables))
    else:
        text = "\n\n".join(f"**{title}**\n\n{markdown_table(header, lines)}" for title, header, lines in tables)
        write_text(options.out, text + "\n")


if __name__ == "__main__":
    run(main)
