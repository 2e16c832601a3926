#!/usr/bin/env python
"""Checkpoints of STAMP: rename the type of a base detector, and merge.

python opencood/tools/stamp_tools.py rename BASE_M0 m1 m0 OUT_M0    # type m1 of a base becomes the protocol m0
python opencood/tools/stamp_tools.py merge OUT_M0 OUT_M1 STAGE_2    # start of the training of m1's adapter
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, do it, say what was done."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    rename = commands.add_parser("rename", help="write OUT with the parts of type OLD called NEW; heads and fusion too")
    rename.add_argument("folder", type=Path, metavar="DIR", help="run folder of a detector of one type")
    rename.add_argument("old", metavar="OLD", help="type in it, such as m1")
    rename.add_argument("new", metavar="NEW", help="type it becomes, such as m0")
    rename.add_argument("out", type=Path, metavar="OUT")
    merge = commands.add_parser("merge", help="fold the checkpoints of run folders; later ones override")
    merge.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run folders, then OUT")
    given = parser.parse_args(argv)
    from opencood.experiments import merging

    if given.command == "rename":
        print(f"wrote {merging.rename_type(given.folder, given.old, given.new, given.out)}")
        return
    *folders, out = given.folders
    if not folders:
        parser.error("merge needs at least one run folder and, last, the output folder")
    print("\n".join(merging.merge_runs(folders, out).lines()))


if __name__ == "__main__":
    run(main)
