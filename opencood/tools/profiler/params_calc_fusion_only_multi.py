#!/usr/bin/env python
"""What the fusion of a detector costs for several numbers of agents: tools/profile.py under its published name."""

from __future__ import annotations

if not __package__:
    import _clone  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import run
from opencood.tools._profilers import profiler

main = profiler("profiler/params_calc_fusion_only_multi", agents=(1, 2, 3, 4))

if __name__ == "__main__":
    run(main)
