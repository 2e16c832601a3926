"""Build the criterion that the ``loss`` section of a hypes file names."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from opencood.config.tree import lookup
from opencood.errors import ConfigError
from opencood.registry import REGISTRY

ADAPTER_TRAINING = "heter_model_baseline_w_stamp"


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
        where, section = _of_stamp(hypes, section)
        return build_loss_section(section, where, hypes)
    return build_loss_section(section, hypes=hypes)


def _of_stamp(hypes: Mapping[str, Any], by_type: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The loss that a file with one per type means, and the key it stands under."""
    adapters = hypes.get("loss_adapter")
    if lookup(hypes, "model.core_method") == ADAPTER_TRAINING and isinstance(adapters, Mapping):
        return "loss_adapter", adapters
    own = str(lookup(hypes, "model.args.ego_modality"))
    chosen = by_type.get(own)
    return (f"loss.{own}", chosen) if isinstance(chosen, Mapping) else ("loss", by_type)


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
