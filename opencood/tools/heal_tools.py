#!/usr/bin/env python
"""Merge and edit checkpoints of staged training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, run

_FOLD = "fold the checkpoints of run folders: new modalities first, the collaboration base (ego) last"


def parser() -> Parser:
    """One subcommand per published function, and ``half_precision``."""
    made = Parser(description=__doc__)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    two = commands.add_parser("merge", help="a single-modality detector and a collaboration base into OUT")
    two.add_argument("folders", nargs=2, type=Path, metavar=("SINGLE", "BASE"))
    many = commands.add_parser("merge_final", aliases=["merge_and_save"], help=_FOLD)
    many.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run folders, the base last, then OUT")
    for merging in (two, many):
        merging.add_argument("--config", type=Path, help="hypes file to put into OUT as config.yaml")
    two.add_argument("out", type=Path, metavar="OUT")
    for name, what in (
        ("rename_to_new_version", "give entries of an early version their names of today"),
        ("remove_m4_trunk", "drop the unused image trunk of modality m4"),
    ):
        commands.add_parser(name, help=f"{what}, in place; the old file is kept").add_argument("file", type=Path)
    renaming = commands.add_parser("rename", help="give a checkpoint the names of another family, in place")
    renaming.add_argument("file", type=Path)
    renaming.add_argument("direction", help="homogeneous->m1, m1->homogeneous, m1->opencood (quote it)")
    suffixed = commands.add_parser("add_suffix_to_keys_save", help="write OUT with _SUFFIX behind the heads' names")
    suffixed.add_argument("folder", type=Path, metavar="DIR")
    suffixed.add_argument("suffix", metavar="SUFFIX")
    suffixed.add_argument("out", type=Path, metavar="OUT")
    halved = commands.add_parser("half_precision", help="write the checkpoint of DIR to OUT with 16 bits per number")
    halved.add_argument("folder", type=Path, metavar="DIR")
    halved.add_argument("out", type=Path, metavar="OUT")
    halved.add_argument("--without", nargs="+", default=[], metavar="MODULE", help="modules to leave out")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, do it, say what was done."""
    made = parser()
    given = made.parse_args(argv)
    from opencood.experiments import merging

    if given.command in ("merge", "merge_final", "merge_and_save"):
        folders, out = (
            (given.folders, given.out) if given.command == "merge" else (given.folders[:-1], given.folders[-1])
        )
        if not folders:
            made.error(f"{given.command} needs at least one run folder and, last, the output folder")
        print("\n".join(merging.merge_runs(folders, out, given.config).lines()))
    elif given.command == "add_suffix_to_keys_save":
        print(f"wrote {merging.add_head_suffix(given.folder, given.suffix, given.out)}")
    elif given.command == "half_precision":
        print(f"wrote {merging.half_precision(given.folder, given.out, given.without)}")
    elif given.command == "rename":
        print(f"wrote {merging.rename(given.file, given.direction)}; the old file is kept beside it")
    else:
        print(f"wrote {getattr(merging, given.command)(given.file)}; the old file is kept beside it")


if __name__ == "__main__":
    run(main)
