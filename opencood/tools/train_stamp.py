#!/usr/bin/env python
"""Train STAMP's adapter and reverter of one type against the protocol, both of which are frozen."""

from __future__ import annotations

from collections.abc import Sequence

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import run
from opencood.tools._train_arguments import parser, run_given


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, print what the adapters cost where that is asked for, train, say where the run is."""
    made = parser(__doc__)
    made.add_argument("--flop_count", action="store_true", help="print parts, parameters and operations first")
    given = made.parse_args(argv)
    if not given.model_dir:
        made.error("--model_dir is needed: a folder with config.yaml and the weights of type and protocol")
    if given.flop_count:
        from opencood.config.loader import load_yaml
        from opencood.experiments.describe import describe

        print("\n".join(describe(load_yaml(None, model_dir=given.model_dir)).lines()))
    return run_given(made, given, test_afterwards=False)


if __name__ == "__main__":
    run(main)
