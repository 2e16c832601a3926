#!/usr/bin/env python
"""Time of each part of a detector: tools/profile.py under its published name."""

from __future__ import annotations

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import run
from opencood.tools._profilers import profiler

main = profiler("inference_time")

if __name__ == "__main__":
    run(main)
