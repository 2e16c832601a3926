#!/usr/bin/env python
"""Train a detector that starts from the checkpoint of another training (init_from), as after pretraining."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import run
from opencood.tools._train_arguments import train


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, say where the run is."""
    return train(__doc__, argv, transfer=True)


if __name__ == "__main__":
    run(main)
