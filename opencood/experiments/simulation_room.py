"""The folder of a simulated data set: emptied of an earlier one before, and of half a one after a failure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from opencood.errors import StorageError
from opencood.registry import REGISTRY
from opencood.simulation.writers.storage import SCRATCH, storing

MANIFEST = "simulation.json"


def make_room(out: Path, overwrite: bool) -> None:
    """Make sure that ``out`` is an empty folder; only an earlier simulation is ever removed.

    Raises:
        StorageError: it holds something else, or something at all without ``overwrite``.
    """
    with storing(out):
        entries = {entry.name for entry in out.iterdir()} if out.exists() else set()
        if entries and not overwrite:
            raise StorageError(f"{out} is not empty. Choose another --out, or replace its content with --overwrite.")
        if entries and not entries & {MANIFEST, SCRATCH}:
            raise StorageError(
                f"{out} holds files that are not a simulated data set; remove them or choose another --out."
            )
        _remove_ours(out)
        (out / SCRATCH).mkdir(parents=True)


@contextmanager
def whole_or_nothing(out: Path) -> Iterator[None]:
    """A data set that lacks scenarios must not be taken for a whole one: what was made goes when the block fails."""
    try:
        yield
        shutil.rmtree(out / SCRATCH, ignore_errors=True)
    except BaseException:
        with suppress(OSError):
            _remove_ours(out)
        raise


def _remove_ours(out: Path) -> None:
    """Remove what any format leaves: an earlier simulation may have been of another one."""
    writers = [REGISTRY.build("writer", name, root=out) for name in REGISTRY.names("writer")]
    owned = {name for writer in writers for name in writer.owns}
    for path in (out / name for name in sorted(owned | {SCRATCH, MANIFEST})):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
