#!/usr/bin/env python
"""Put STAMP's detectors and adapters into one detector for inference.

<model_dir>/final_infer/<adapter_dir>/config.yaml says what is built; weights come from <model_dir>/local/*,
<model_dir>/<sub_dir>/<adapter_dir>/* and, with --with_protocol, <model_dir>/protocol. Written is net_epoch1.pth there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, merge, say what came from where."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model_dir", required=True, type=Path, help="folder of local, adapters, protocol, final_infer"
    )
    parser.add_argument("--sub_dir", default="local_adapter", help="folder of the adapters (default %(default)s)")
    parser.add_argument("--adapter_dir", required=True, help="which adapters, and which folder below final_infer")
    parser.add_argument("--with_protocol", action="store_true", help="take the protocol's detector too")
    given = parser.parse_args(argv)
    from opencood.experiments.merging import merge_with_adapters

    print("\n".join(merge_with_adapters(given.model_dir, given.adapter_dir, given.sub_dir, given.with_protocol)))


if __name__ == "__main__":
    run(main)
