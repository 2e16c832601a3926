"""Result files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from opencood.errors import DataError, StorageError


def write_atomically(path: Path, fill: Callable[[IO[bytes]], Any]) -> Path:
    """Let ``fill`` write into a temporary file beside ``path``, then put it in place in one step.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind then.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
            temporary = Path(handle.name)
            fill(handle)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{path}: cannot be written ({reason}). Free some space or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically."""
    return write_atomically(path, lambda handle: handle.write(text.encode()))


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    """Write block-style YAML atomically; keys keep their order."""
    return write_text(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=False, allow_unicode=True))


def write_array(path: Path, array: np.ndarray) -> Path:
    """Write a ``.npy`` file atomically."""
    return write_atomically(path, lambda handle: np.save(handle, array))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        DataError: the file is missing, broken, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no mapping.")
    return content
