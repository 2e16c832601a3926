"""The same detector under the names of two families: homogeneous models, and models with modality ``m1``.

Source: spec homogeneous.md 7. A rule replaces a leading prefix; all rules look at the original names, and two entries
that would get one name are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from opencood.errors import CheckpointError, ConfigError, nearest

Value = TypeVar("Value")
Rules = Sequence[tuple[str, str]]  # old prefix, new prefix; the first that fits counts

TO_M1, TO_HOMOGENEOUS, TO_OPENCOOD = "homogeneous->m1", "m1->homogeneous", "m1->opencood"
DIRECTIONS = (TO_M1, TO_HOMOGENEOUS, TO_OPENCOOD)
_ENCODERS = ("pillar_vfe.", "spconv_block.", "camencode.")
_FIRST_LEVEL = "backbone.resnet.layer0."
# In these models the levels behind the first stay in the shared backbone.
_SHARED_LEVELS = ("backbone.resnet.layer1.", "backbone.blocks.1.")
# V2X-ViT in OpenCOOD, and in the family of CoAlign and HEAL, which wraps it once more.
_BARE, _WRAPPED = "fusion_net.encoder.", "fusion_net.fusion_net.encoder."
_NO_COUNTERPART = {
    "ssfa.": "the neck of SECOND has no counterpart there",
    "bevencode.": "the backbone of Lift-Splat-Shoot has no counterpart there",
    "layers_": "a backbone of late fusion in two halves has no counterpart there",
    "fusion_net.cnn.": "V2VNet of the OpenCOOD family warps otherwise",
}


def renamed(state: Mapping[str, Value], direction: str, modality: str = "m1") -> dict[str, Value]:
    """Return the entries of a detector under the names of the other family, in their order.

    Args:
        direction: ``homogeneous->m1``; ``m1->homogeneous`` (CoAlign's names); ``m1->opencood`` (whose V2X-ViT is called
            otherwise).
        modality: name of the modality.

    Raises:
        ConfigError: unknown direction.
        CheckpointError: the detector has a part without a counterpart, entries of several modalities, or two entries
            would get one name.
    """
    if direction != TO_M1:
        state = without_unused(state, modality)
    rules = rules_for(state, direction, modality)
    found: dict[str, Value] = {}
    for key, value in state.items():
        new = _by_rules(key, rules)
        if new in found:
            raise CheckpointError(f"{direction}: two entries would be called '{new}', one of them is '{key}'.")
        found[new] = value
    return found


def rules_for(state: Mapping[str, object], direction: str, modality: str = "m1") -> Rules:
    """Return the rules that fit the entries of a checkpoint; see ``renamed``."""
    if direction not in DIRECTIONS:
        valid = ", ".join(DIRECTIONS)
        raise ConfigError(f"unknown direction '{direction}'.{nearest(direction, DIRECTIONS)} Valid: {valid}.")
    for prefix, reason in _NO_COUNTERPART.items():
        if any(key.startswith(prefix) for key in state):
            raise CheckpointError(f"{direction}: '{prefix.rstrip('._')}' cannot be renamed: {reason}.")
    if direction == TO_M1:
        return _to_modality(state, modality)
    return _from_modality(state, modality, direction)


def _to_modality(state: Mapping[str, object], m: str) -> Rules:
    if not any(key.startswith(_ENCODERS) for key in state):
        raise CheckpointError(f"{TO_M1}: there is none of {', '.join(_ENCODERS)}; is this a homogeneous detector?")
    rules = [(encoder, f"encoder_{m}.{encoder}") for encoder in _ENCODERS]
    rules.append(("naive_compressor.", "compressor."))
    if not _has_wrapped(state):
        rules.append((_BARE, _WRAPPED))
    if any(key.startswith(_FIRST_LEVEL) for key in state):
        return [*rules, (_FIRST_LEVEL, f"backbone_{m}.resnet.layer0.")]
    return [*rules, ("backbone.", f"backbone_{m}."), ("shrink_conv.", f"shrinker_{m}.")]


def _from_modality(state: Mapping[str, object], m: str, direction: str) -> Rules:
    encoders = {part for key in state if (part := key.partition(".")[0]).startswith("encoder_")}
    others = sorted(encoders - {f"encoder_{m}"})
    if others or not any(key.startswith(f"encoder_{m}.") for key in state):
        told = ", ".join(others) or "none"
        raise CheckpointError(f"{direction}: one modality, {m}, can be renamed; the encoders here are {told}.")
    rules = [(f"encoder_{m}.", ""), ("compressor.", "naive_compressor.")]
    if direction == TO_OPENCOOD:
        rules.append((_WRAPPED, _BARE))
    if any(key.startswith(_SHARED_LEVELS) for key in state):
        return [*rules, (f"backbone_{m}.", "backbone.")]
    return [*rules, (f"backbone_{m}.", "backbone."), (f"shrinker_{m}.", "shrink_conv.")]


def without_unused(state: Mapping[str, Value], modality: str = "m1") -> dict[str, Value]:
    """Return the entries without the first level of a shared backbone that a modality's own one replaces.

    Models with modalities and fusion at every level carry such a level although nothing reads it.
    """
    if not any(key.startswith(f"backbone_{modality}.resnet.layer0.") for key in state):
        return dict(state)
    return {key: value for key, value in state.items() if not key.startswith(_FIRST_LEVEL)}


def _has_wrapped(state: Mapping[str, object]) -> bool:
    return any(key.startswith(_WRAPPED) for key in state)


def _by_rules(key: str, rules: Rules) -> str:
    for old, new in rules:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
