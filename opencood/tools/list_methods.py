#!/usr/bin/env python
"""Print every name that a hypes YAML can use, by kind, with one line each."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.experiments.methods import format_methods, list_methods
from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """List the registered components."""
    parser = Parser(description=__doc__)
    parser.add_argument("kind", nargs="?", help="only this kind, such as fusion or model")
    options = parser.parse_args(argv)
    print(format_methods(list_methods(options.kind)))
    return 0


if __name__ == "__main__":
    run(main)
