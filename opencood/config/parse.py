"""Apply the ``yaml_parser`` or ``yaml_parsers`` of a configuration. Source: spec config.md section 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.config.parsers.context import ParserContext
from opencood.config.tree import lookup, section, with_value
from opencood.errors import ConfigError, nearest
from opencood.registry import REGISTRY

SETTINGS = "heter.modality_setting"


def apply_parsers(hypes: Mapping[str, Any], context: ParserContext) -> Mapping[str, Any]:
    """Return a copy with all derived keys; applying it again to the result changes nothing.

    ``yaml_parser`` is a name or a list of names for the whole map; without it, ``yaml_parsers: {m0: name or list}`` is
    for each modality's own map. Without either, the map is returned as it is.

    Raises:
        ConfigError: an unknown parser, a modality without one, or a key that a parser needs is missing.
    """
    if hypes.get("yaml_parser") is not None:
        return _apply(hypes, hypes["yaml_parser"], context, "yaml_parser")
    if hypes.get("yaml_parsers") is not None:
        return _apply_by_modality(hypes, context)
    return hypes


def _apply(hypes: Mapping[str, Any], names: Any, context: ParserContext, key: str) -> Mapping[str, Any]:
    listed = [names] if isinstance(names, str) else names
    place = f"{context.source.where(key)}: {key}"
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"{place}: expected the name of a parser or a list of names, found {names!r}.")
    for name in listed:
        hypes = REGISTRY.get("yaml_parser", name, where=place).target(hypes, context)
    return hypes


def _apply_by_modality(hypes: Mapping[str, Any], context: ParserContext) -> Mapping[str, Any]:
    parsers = hypes["yaml_parsers"]
    if not isinstance(parsers, Mapping):
        place = context.source.where("yaml_parsers")
        raise ConfigError(f"{place}: yaml_parsers: expected a map from modality to parser, found {parsers!r}.")
    for modality in section(hypes, SETTINGS):
        at = f"{SETTINGS}.{modality}"
        if modality not in parsers:
            place = context.source.where(at)
            raise ConfigError(
                f"{place}: yaml_parsers has no entry for modality '{modality}'.{nearest(modality, parsers)}"
            )
        parsed = _apply(lookup(hypes, at), parsers[modality], context.below(at), f"yaml_parsers.{modality}")
        hypes = with_value(hypes, at, parsed)
        hypes = _with_encoder_geometry(hypes, modality, parsers[modality])
    return hypes


def _with_encoder_geometry(hypes: Mapping[str, Any], modality: str, parser: Any) -> Mapping[str, Any]:
    """A BEV modality's geometry is also an argument of its encoder."""
    geometry = lookup(hypes, f"{SETTINGS}.{modality}.preprocess.geometry_param")
    named = [parser] if isinstance(parser, str) else parser
    if geometry is None or "load_bev_params" not in named:
        return hypes
    return with_value(hypes, f"model.args.{modality}.encoder_args.geometry_param", geometry)
