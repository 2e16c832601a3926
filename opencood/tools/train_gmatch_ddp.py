#!/usr/bin/env python
"""The same in several processes: tools/train_ddp.py."""

from __future__ import annotations

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools import train_ddp
from opencood.tools._alias import alias
from opencood.tools._cli import run

main = alias("train_gmatch_ddp.py", "train_ddp.py", train_ddp.main)

if __name__ == "__main__":
    run(main)
