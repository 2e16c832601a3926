#!/usr/bin/env python
"""Equal and different entries of two checkpoints: tools/inspect_checkpoint.py under its published name."""

from __future__ import annotations

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools import inspect_checkpoint
from opencood.tools._alias import alias
from opencood.tools._cli import run

main = alias("compare_ckpt.py", "inspect_checkpoint.py", inspect_checkpoint.main)

if __name__ == "__main__":
    run(main)
