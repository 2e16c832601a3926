#!/usr/bin/env python
"""Evaluate a detector of several classes (V2X-Real) with agents that enter in order; as inference_heter_in_order.py."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools import inference_heter_in_order
from opencood.tools._cli import run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the report; AP by class and by distance where the data set has several classes."""
    inference_heter_in_order.main(argv)


if __name__ == "__main__":
    run(main)
