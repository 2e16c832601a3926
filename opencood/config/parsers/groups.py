"""The parser that takes modalities from a library of definitions. Source: spec config.md section 2, codealign.md."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencood.config.parsers.context import ParserContext
from opencood.config.parsers.grids import load_general_params
from opencood.config.reader import read_document
from opencood.config.tree import section, with_value
from opencood.errors import ConfigError, nearest
from opencood.registry import register

LIBRARY = "heter.definition_path"
SETTINGS = "heter.modality_setting"
PACKAGE_PARENT = Path(__file__).resolve().parents[3]
PUBLISHED = PACKAGE_PARENT / "opencood" / "modality_assign"


@register("yaml_parser", "load_general_params_heter_group")
def load_general_params_heter_group(hypes: Mapping[str, Any], context: ParserContext) -> Mapping[str, Any]:
    """As ``load_general_params``; the ego modalities' settings come from ``heter.definition_path`` (CodeAlign)."""
    parser = "load_general_params_heter_group"
    hypes = load_general_params(hypes, context)
    written = str(context.need(hypes, "heter.definition_path", parser))
    ego = context.need(hypes, "heter.ego_modality", parser)
    names = [ego] if isinstance(ego, str) else list(ego)
    path = _locate(written, context)
    if path is None:
        return _already_defined(hypes, names, written, context)
    library = read_document(path).data
    settings = {name: _definition(library, SETTINGS, name, path) for name in names}
    hypes = with_value(hypes, SETTINGS, settings)
    for name in names:
        hypes = with_value(hypes, f"model.args.{name}", _definition(library, "model.args", name, path))
    return hypes


def _locate(written: str, context: ParserContext) -> Path | None:
    """Find the library relative to the working directory, to the package's parent (``opencood/...``) or to the file.

    Else by its name among the published definitions, for which published files name several folders.
    """
    beside = Path(context.source.where(LIBRARY).rpartition(":")[0] or ".").parent
    places = (Path(written), PACKAGE_PARENT / written, beside / written, PUBLISHED / Path(written).name)
    return next((path for path in places if path.is_file()), None)


def _already_defined(
    hypes: Mapping[str, Any], names: list[str], written: str, context: ParserContext
) -> Mapping[str, Any]:
    """Without the library, a saved configuration still holds what was taken from it."""
    place = context.source.where(LIBRARY)
    if all(name in section(hypes, part) for name in names for part in (SETTINGS, "model.args")):
        warnings.warn(f"{place}: {LIBRARY}: no file '{written}'; using the definitions saved here.", stacklevel=2)
        return hypes
    siblings = [p.name for p in PUBLISHED.glob("*.yaml")]
    hint = nearest(Path(written).name, siblings)
    raise ConfigError(
        f"{place}: {LIBRARY}: no file '{written}' (relative to the working directory or to this file).{hint}"
    )


def _definition(library: Mapping[str, Any], at: str, name: str, path: Path) -> Any:
    known = section(library, at)
    if name not in known:
        raise ConfigError(f"{path}: {at}: no definition of modality '{name}'.{nearest(name, known)}")
    return known[name]
