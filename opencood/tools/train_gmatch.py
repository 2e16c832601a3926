#!/usr/bin/env python
"""Train with GenComm's gradient matching, whose published form changes no update: tools/train.py."""

from __future__ import annotations

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools import train
from opencood.tools._alias import alias
from opencood.tools._cli import run

main = alias("train_gmatch.py", "train.py", train.main)

if __name__ == "__main__":
    run(main)
