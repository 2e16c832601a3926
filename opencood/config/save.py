"""Save the full configuration of a run as plain YAML. Source: spec config.md section 5."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opencood.config.dialect import HypesDumper
from opencood.config.loader import CONFIG_NAME, VERSION_KEY
from opencood.errors import ConfigError, StorageError

CHOICES = ("flavor", "parity", "quirks", VERSION_KEY)


def save_config(hypes: Mapping[str, Any], run_dir: str | Path) -> Path:
    """Write ``<run_dir>/config.yaml`` at once or not at all: block style, sorted keys, no tags, no aliases.

    Tuples and NumPy values become lists and numbers; loading the file gives the same map. A stamp names our version.

    Raises:
        ConfigError: a value that YAML cannot hold, with its key path.
        StorageError: the file cannot be written.
    """
    content = {**to_plain(hypes), VERSION_KEY: own_version()}
    text = yaml.dump(
        content, Dumper=HypesDumper, default_flow_style=False, sort_keys=True, allow_unicode=True, width=120
    )
    return _write_at_once(Path(run_dir) / CONFIG_NAME, text)


def to_plain(value: Any, path: str = "") -> Any:
    """Return a value as dicts, lists, numbers, texts and null.

    Raises:
        ConfigError: anything else, with its key path.
    """
    if isinstance(value, Mapping):
        return {
            _plain_key(key, path): to_plain(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{path}.{i}") for i, item in enumerate(value)]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(
        f"{path}: a {type(value).__name__} cannot be saved in {CONFIG_NAME}; use numbers, text, lists, maps."
    )


def digest(hypes: Mapping[str, Any]) -> str:
    """SHA-1 of the configuration's content, the same whatever the flavor, parity and version stamp.

    Computed over JSON with sorted keys, separators ``,`` and ``:``, ASCII, all keys as text.
    """
    content = {key: value for key, value in hypes.items() if key not in CHOICES}
    text = json.dumps(_text_keys(to_plain(content)), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha1(text.encode()).hexdigest()


def own_version() -> str:
    """Version of this package, also from a clone that is not installed."""
    try:
        return version("opencood")
    except PackageNotFoundError:
        import opencood

        return opencood.__version__


def _plain_key(key: Any, path: str) -> Any:
    if isinstance(key, str | int | float | bool) or key is None:
        return key
    raise ConfigError(f"{path or 'top level'}: key {key!r} cannot be saved in {CONFIG_NAME}; use text.")


def _text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _write_at_once(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StorageError(
            f"{path}: cannot be written: {error.strerror}. Free some space or choose another folder."
        ) from error
    return path
