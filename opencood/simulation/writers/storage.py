"""Writing that is either complete or absent, with one clear error when the disk is full."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opencood.errors import StorageError

SCRATCH = ".partial"


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn operating system errors inside the block into a StorageError that names ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: cannot be written ({reason}). Free space or choose another --out.") from error


@contextmanager
def whole_folder(root: Path, relative: Path) -> Iterator[Path]:
    """Yield an empty folder outside the data set that becomes ``root / relative`` when the block succeeds.

    Raises:
        StorageError: a write failed; nothing of the folder is left.
    """
    scratch, final = root / SCRATCH / "--".join(relative.parts), root / relative
    with storing(final):
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            yield scratch
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch, final)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def shared_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder outside the data set whose files join those below ``root`` when the block succeeds.

    Raises:
        StorageError: a write failed; none of the files is there if that was inside the block.
    """
    scratch = root / SCRATCH / name
    with storing(root):
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            yield scratch
            for source in sorted(path for path in scratch.rglob("*") if path.is_file()):
                final = root / source.relative_to(scratch)
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, final)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file at once.

    Raises:
        StorageError: the write failed; an older file is untouched.
    """
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at once.

    Raises:
        StorageError: the write failed; an older file is untouched.
    """
    scratch = path.with_name(path.name + ".tmp")
    with storing(path):
        try:
            scratch.write_bytes(content)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
