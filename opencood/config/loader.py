"""Load a hypes YAML: read, inherit, check, derive. Source: spec config.md section 1.

The result is a plain nested dict that also knows its flavor, its parity and where each key was written.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencood.config.checks import check_hypes
from opencood.config.flavor import flavor_of, is_shipped, parity_of
from opencood.config.inheritance import read_expanded
from opencood.config.parse import apply_parsers
from opencood.config.parsers.context import ParserContext
from opencood.config.source import Source, source_of
from opencood.config.tree import plain_copy, section
from opencood.errors import ConfigError

CONFIG_NAME = "config.yaml"
VERSION_KEY = "opencood_version"
RESULT_PATTERNS = ("eval*.yaml", "*_eval.yaml", "AP0*.yaml", "result*.yaml")
_LOG = logging.getLogger(__name__)


class Hypes(dict[str, Any]):
    """A configuration: a plain nested dict, plus where it came from.

    Attributes:
        source: line lookup, ``hypes.source.where("train_params.max_cav") -> "file.yaml:12"``.
        path: the file that was loaded, or None.
        saved_by: version of this package that wrote the file, or None when something else did.
    """

    def __init__(
        self, content: Mapping[str, Any], source: Source, path: Path | None = None, saved_by: str | None = None
    ) -> None:
        super().__init__(content)
        self.source = source
        self.path = path
        self.saved_by = saved_by

    def replaced(self, content: Mapping[str, Any]) -> Hypes:
        """Return other content that comes from the same place."""
        return Hypes(content, self.source, self.path, self.saved_by)


def load_yaml(path: str | Path | None, model_dir: str | Path | None = None) -> Hypes:
    """Load a configuration with inheritance, checks and derived keys.

    Args:
        path: the hypes file; None or the text ``None`` when ``model_dir`` is given.
        model_dir: a run folder; its own configuration is read and ``path`` is ignored.

    Raises:
        ConfigError: whatever is wrong, with file, line, key path, what was expected and the nearest valid name.
    """
    hypes = load_file(config_of_run(model_dir) if model_dir else _required(path))
    _LOG.info("%s: flavor %s, parity %s", hypes.path, hypes["flavor"], hypes["parity"])
    return hypes


def load_file(file: Path, repair: bool = False) -> Hypes:
    """Load one hypes file, without a word about it (see ``load_yaml``); ``repair`` as in ``read_document``."""
    document, files = read_expanded(file, repair)
    content = dict(document.data)
    version = content.pop(VERSION_KEY, None)
    source = Source(document.place)
    ours = version is not None or any(map(is_shipped, files))
    hypes = Hypes(content, source, file, None if version is None else str(version))
    return complete(hypes, ours=ours)


def load_mapping(content: Mapping[str, Any], name: str = "hypes", ours: bool = False) -> Hypes:
    """Do with a map what ``load_yaml`` does with a file; ``name`` stands for the file in messages.

    The map may be a part of a configuration: keys that only a whole run needs may be missing.
    """
    return complete(Hypes(content, source_of(content, name)), ours=ours, whole=False)


def complete(hypes: Hypes, ours: bool = False, whole: bool = True) -> Hypes:
    """Check a raw configuration, settle flavor and parity, fill in the derived keys; the given map is not changed."""
    source = hypes.source
    check_hypes(hypes, source, whole)
    try:
        flavor, parity = flavor_of(hypes, hypes.path), parity_of(hypes, ours)
    except ConfigError as error:
        key = str(error).partition(":")[0]
        raise ConfigError(f"{source.where(key)}: {error}") from error
    parsed = apply_parsers(hypes, ParserContext(flavor, parity, section(hypes, "quirks"), source))
    return hypes.replaced({**plain_copy(parsed), "flavor": flavor, "parity": parity})


def reparse(hypes: Hypes) -> Hypes:
    """Derive everything again, after keys were changed on the command line."""
    return complete(hypes, whole=False)


def config_of_run(model_dir: str | Path) -> Path:
    """Return the configuration file of a run folder: ``config.yaml``, else the only YAML in it that is not a result.

    Raises:
        ConfigError: no such folder, no configuration, or several candidates.
    """
    folder = Path(model_dir)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such run folder (--model_dir).")
    if (folder / CONFIG_NAME).is_file():
        return folder / CONFIG_NAME
    found = sorted(p for p in folder.glob("*.y*ml") if not _is_result(p.name))
    if len(found) == 1:
        _LOG.warning("%s has no %s: using %s", folder, CONFIG_NAME, found[0].name)
        return found[0]
    if not found:
        raise ConfigError(f"{folder}: no {CONFIG_NAME}. Copy the hypes file of the run there under that name.")
    names = ", ".join(p.name for p in found)
    raise ConfigError(f"{folder}: no {CONFIG_NAME} and several other YAML files ({names}). Rename the right one.")


def _is_result(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in RESULT_PATTERNS)


def _required(path: str | Path | None) -> Path:
    if path is None or str(path) in ("", "None"):
        raise ConfigError("no hypes file: give one with -y FILE, or a run folder with --model_dir.")
    return Path(path)
