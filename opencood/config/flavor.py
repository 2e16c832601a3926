"""Which published repository a configuration speaks for, and which of its quirks are wanted.

The same YAML means different things in different repositories. ``flavor`` says whose meaning applies (explicit key, or
derived by the table ``RULES``), ``parity`` whether its quirks are reproduced (``published``) or repaired (``fixed``).
Source: spec homogeneous.md section 1, config.md sections 2 to 6, tools.md, data.md section 11.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opencood.config.quirks import QUIRKS
from opencood.config.tree import lookup, section
from opencood.errors import ConfigError, nearest

FLAVORS = ("heal", "codealign", "gencomm", "coopre", "coalign", "opencood", "v2xreal", "v2v4real", "stamp")
PARITIES = ("published", "fixed")
UNMARKED = "heal"
CLONES = {"HEAL": "heal", "CodeAlign": "codealign", "GenComm": "gencomm", "STAMP": "stamp"}
SHIPPED = Path(__file__).resolve().parents[1] / "hypes_yaml"

_GENCOMM_FUSION = re.compile(r"intermediate(heterv2xreal|v2xrealheter|pnpda)(infer)?")
_GENCOMM_NAMES = re.compile(r"heter_model_baseline_w_|diffcomm|gencomm|_mpda_|gmatch|v2xreal")
_STAMP_NAMES = re.compile(r"homo_collab|homo_pyramid|collab_w_adapter|heter_late_fusion|heter_stamp")
_CODEALIGN_NAMES = re.compile(r"heter_codebook|heter_model_shared_head|hmvit|pyramid_codebook_loss")
_COOPRE_NAMES = re.compile(r"coopre|bev_mae|masked_bev|chamfer_loss")
_V2V4REAL_FOLDERS = {"v2v4real", "v2vreal"}


def flavor_of(hypes: Mapping[str, Any], file: Path | None = None) -> str:
    """Return whose meaning applies: the key ``flavor`` (top level or in ``model``), else the first rule that fits.

    A heterogeneous file without the mark of any fork reads the same in all of them but builds other names. Then the
    folder of a clone in the path of ``file`` (``CodeAlign/opencood/hypes_yaml/...``) tells which is meant; without
    one it is ``heal``.

    Raises:
        ConfigError: the key names no known flavor.
    """
    explicit = hypes.get("flavor") or section(hypes, "model").get("flavor")
    if explicit is not None:
        return _one_of("flavor", explicit, FLAVORS)
    found = next(flavor for flavor, fits in RULES if fits(hypes))
    if found == UNMARKED and file is not None:
        return next((CLONES[part] for part in file.parts if part in CLONES), found)
    return found


def parity_of(hypes: Mapping[str, Any], ours: bool = False) -> str:
    """Return ``published`` or ``fixed``: the ``parity`` key, else ``fixed`` for our own files and run folders.

    Raises:
        ConfigError: the key has another value.
    """
    explicit = hypes.get("parity")
    if explicit is not None:
        return _one_of("parity", explicit, PARITIES)
    return "fixed" if ours else "published"


def is_shipped(path: Path) -> bool:
    """Whether a hypes file is one of ours."""
    return path.resolve().is_relative_to(SHIPPED)


def quirk(hypes: Mapping[str, Any], name: str) -> Any:
    """Return the value of a quirk switch: ``quirks.<name>`` of the YAML, else by parity and flavor.

    Raises:
        KeyError: the code asks for a switch that does not exist.
    """
    entry = QUIRKS[name]
    chosen = section(hypes, "quirks")
    if name in chosen:
        return chosen[name]
    return entry.value(flavor_of(hypes), parity_of(hypes))


def quirks_of(hypes: Mapping[str, Any]) -> dict[str, Any]:
    """Return every switch with the value it has for this configuration (for reports)."""
    return {name: quirk(hypes, name) for name in QUIRKS}


def _one_of(key: str, value: Any, valid: tuple[str, ...]) -> str:
    word = str(value).lower().replace("-", "").replace("_", "")
    if word not in valid:
        raise ConfigError(f"{key}: '{value}' is none of {', '.join(valid)}.{nearest(str(value), valid)}")
    return word


# --- which repository a file comes from, most specific marks first


def _names(hypes: Mapping[str, Any]) -> list[str]:
    return [str(section(hypes, part).get("core_method", "")) for part in ("model", "loss")]


def _named(pattern: re.Pattern[str], hypes: Mapping[str, Any]) -> bool:
    return any(pattern.search(name) for name in _names(hypes))


def _is_stamp(hypes: Mapping[str, Any]) -> bool:
    by_modality = "yaml_parsers" in hypes or lookup(hypes, "heter.protocol_modality") is not None or "task" in hypes
    return _named(_STAMP_NAMES, hypes) or (by_modality and not _is_gencomm(hypes))


def _is_gencomm(hypes: Mapping[str, Any]) -> bool:
    fusion = str(lookup(hypes, "fusion.core_method") or "")
    own_keys = any(key in hypes for key in ("ego_diff_cav", "verify_mode"))
    noise = section(hypes, "noise_setting")
    own_noise = "add_pose_noise" in noise or "add_async_noise" in noise
    on_v2xreal = "heter" in hypes and lookup(hypes, "fusion.dataset") == "v2xreal"
    own_fusion = _GENCOMM_FUSION.fullmatch(fusion) is not None
    return _named(_GENCOMM_NAMES, hypes) or own_fusion or own_keys or own_noise or on_v2xreal


def _is_codealign(hypes: Mapping[str, Any]) -> bool:
    parsers = hypes.get("yaml_parser")
    grouped = "load_general_params_heter_group" in ([parsers] if isinstance(parsers, str) else parsers or [])
    heter = section(hypes, "heter")
    return grouped or "definition_path" in heter or "heter_group" in heter or _named(_CODEALIGN_NAMES, hypes)


def _is_coopre(hypes: Mapping[str, Any]) -> bool:
    if _named(_COOPRE_NAMES, hypes):
        return True
    by_class_name = str(lookup(hypes, "fusion.core_method")).endswith("Dataset")
    second = str(lookup(hypes, "model.core_method")).startswith("second")
    multi_class = lookup(hypes, "model.args.num_class") is not None
    viewing = "model" not in hypes and lookup(hypes, "postprocess.anchor_args.anchor_generator_config") is not None
    return by_class_name and ((second and multi_class) or viewing)


def _is_v2xreal(hypes: Mapping[str, Any]) -> bool:
    return lookup(hypes, "model.args.num_class") is not None or "dataset_mode" in hypes


def _is_v2v4real(hypes: Mapping[str, Any]) -> bool:
    folders = (str(hypes.get(key, "")).lower() for key in ("root_dir", "root_dir_target"))
    if any(_V2V4REAL_FOLDERS & set(re.split(r"[/\\]", folder)) for folder in folders):
        return True
    temporal = lookup(hypes, "model.args.v2vfusion.use_temporal_encoding") is not None
    return temporal or lookup(hypes, "model.args.cls_head_dim") is not None


def _is_coalign(hypes: Mapping[str, Any]) -> bool:
    classes = lookup(hypes, "loss.args.cls")
    return isinstance(classes, Mapping) or lookup(hypes, "fusion.dataset") is not None


def _heterogeneous(fits: Callable[[Mapping[str, Any]], bool]) -> Callable[[Mapping[str, Any]], bool]:
    return lambda hypes: "heter" in hypes and fits(hypes)


RULES: tuple[tuple[str, Callable[[Mapping[str, Any]], bool]], ...] = (
    ("codealign", _heterogeneous(_is_codealign)),
    ("stamp", _heterogeneous(_is_stamp)),
    ("gencomm", _heterogeneous(_is_gencomm)),
    ("heal", lambda hypes: "heter" in hypes),
    ("coopre", _is_coopre),
    ("v2xreal", _is_v2xreal),
    ("coalign", _is_coalign),
    ("v2v4real", _is_v2v4real),
    ("opencood", lambda hypes: True),
)
