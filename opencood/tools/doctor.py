#!/usr/bin/env python
"""Say what works on this machine (Python, torch, CUDA, spconv, data folders) and the exact fix for what does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)
from opencood.experiments.doctor import examine
from opencood.experiments.finding import has_problem
from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line for each thing examined; exit code 1 when something must be repaired."""
    parser = Parser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="folder that holds dataset/ (working directory)")
    options = parser.parse_args(argv)
    findings = examine(options.root)
    print("\n".join(map(str, findings)))
    return 1 if has_problem(findings) else 0


if __name__ == "__main__":
    run(main)
