"""Build the criterion that the ``loss`` section of a hypes file names."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from opencood.config.tree import lookup
from opencood.errors import ConfigError
from opencood.losses.adapters import AdapterAndTaskLoss
from opencood.registry import REGISTRY

ADAPTER_TRAINING = ("heter_model_baseline_w_stamp", "collab_w_adapter")
# Stages of adapter training in which detections are judged, and the one in which nothing else is.
OUTPUT_STAGES = ("train_adapter_w_output", "train_adapter_output_only")
OUTPUT_ONLY = "train_adapter_output_only"
PROTOCOL = "m0"


def build_loss(hypes: Mapping[str, Any]) -> Any:
    """Build ``loss.core_method`` with ``loss.args``.

    STAMP's files have one loss per type, and ``loss_adapter`` for the training of adapters: detections are judged by
    the loss of the ego's type.

    Raises:
        ConfigError: no loss section, unknown method, or arguments that do not fit.
    """
    section = hypes.get("loss")
    if not isinstance(section, Mapping):
        raise ConfigError("loss: the section is missing. It needs core_method and args.")
    if "core_method" not in section:
        if lookup(hypes, "model.args.stage") in OUTPUT_STAGES and _trains_adapters(hypes):
            return _adapters_and_tasks(hypes, section)
        where, section = _of_stamp(hypes, section)
        return build_loss_section(section, where, hypes)
    return build_loss_section(section, hypes=hypes)


def _of_stamp(hypes: Mapping[str, Any], by_type: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The loss that a file with one per type means, and the key it stands under."""
    adapters = hypes.get("loss_adapter")
    if _trains_adapters(hypes) and isinstance(adapters, Mapping):
        return "loss_adapter", adapters
    own = str(lookup(hypes, "model.args.ego_modality"))
    chosen = by_type.get(own)
    return (f"loss.{own}", chosen) if isinstance(chosen, Mapping) else ("loss", by_type)


def _trains_adapters(hypes: Mapping[str, Any]) -> bool:
    return lookup(hypes, "model.core_method") in ADAPTER_TRAINING


def _adapters_and_tasks(hypes: Mapping[str, Any], by_type: Mapping[str, Any]) -> AdapterAndTaskLoss:
    """Distances of features, where the stage asks for them, and the losses of the types."""
    adapters = hypes.get("loss_adapter") if lookup(hypes, "model.args.stage") != OUTPUT_ONLY else None
    features = build_loss_section(adapters, "loss_adapter", hypes) if isinstance(adapters, Mapping) else None
    tasks = {name: build_loss_section(section, f"loss.{name}", hypes) for name, section in by_type.items()}
    protocol = lookup(hypes, "model.args.protocol_modality") or PROTOCOL
    return AdapterAndTaskLoss(features, tasks, str(protocol))


def build_loss_section(section: Mapping[str, Any], where: str = "loss", hypes: Mapping[str, Any] | None = None) -> Any:
    """Build a loss from ``{core_method, args}``; calling it gives (loss to back-propagate, reported terms).

    An unregistered name falls back to the published rule: module ``opencood.loss.<name>`` of the user, in it the
    class whose lower-case name equals the name without underscores (config.md section 6). ``hypes`` gives flavor and
    quirks to the losses that have any.
    """
    if "core_method" not in section:
        raise ConfigError(f"{where}.core_method: missing. Valid names: {', '.join(REGISTRY.names('loss'))}.")
    name, args = str(section["core_method"]), section.get("args")
    if name == "point_pillar_loss" and "cls_weight" in (args or {}):
        name = "point_pillar_loss_opencood"  # another loss of the same name, told by its arguments
    if not REGISTRY.has("loss", name):
        user_class = _published_lookup(name)
        if user_class is not None:
            return _PublishedLoss(user_class(args or {}))
    REGISTRY.get("loss", name, where=f"{where}.core_method")
    return REGISTRY.build("loss", name, args, where=f"{where}.args", hypes=hypes)


class _PublishedLoss:
    """A user's criterion of the old form: it returns the total and keeps its terms in ``loss_dict``."""

    def __init__(self, criterion: Any):
        self.criterion = criterion

    def __call__(self, outputs: Any, targets: Any, suffix: str = "") -> tuple[Any, dict[str, Any]]:
        total = self.criterion(outputs, targets, suffix) if suffix else self.criterion(outputs, targets)
        return total, dict(getattr(self.criterion, "loss_dict", {}))


def _published_lookup(name: str) -> Any | None:
    package = "opencood.loss"
    if importlib.util.find_spec(package) is None or importlib.util.find_spec(f"{package}.{name}") is None:
        return None
    module = importlib.import_module(f"{package}.{name}")
    wanted = name.replace("_", "").lower()
    return next((value for key, value in vars(module).items() if key.lower() == wanted), None)
