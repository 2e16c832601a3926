"""What may be changed in a configuration whose parts do not fit each other, so that its detector can take a step.

Some published files describe a detector that can be built and loaded, but never be trained as they stand: maps of
modalities of different sizes, anchors on another grid than the heads, sensors that the detector does not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from opencood.config.loader import Hypes
from opencood.config.tree import lookup, section, with_value

STRIDES = (1, 2, 4, 8)
_ANCHORS = "postprocess.anchor_args"
_LOSS = "loss.core_method"
_TRANSLATORS = ("adapter", "reverter")
# Losses of which no code, or no outputs to compare, were published, and the one that their sister files name.
_LOSSES = dict.fromkeys(("point_pillar_gmatch_loss", "point_pillar_diffcomm_message_loss"), "point_pillar_gencomm_loss")


def changes(hypes: Hypes) -> Iterator[tuple[str, Hypes]]:
    """Configurations with one thing changed, and what it is, the smallest change first."""
    if "heter" not in hypes and "lidar" not in hypes.get("input_source", ["lidar"]):
        yield "with LiDAR", hypes.replaced({**hypes, "input_source": [*hypes["input_source"], "lidar"]})
    if any(role in args for args in _types(hypes).values() for role in _TRANSLATORS):
        yield "with adapters that keep the resolution", _without_resizing(hypes)
    if lookup(hypes, _LOSS) in _LOSSES:
        loss = _LOSSES[str(lookup(hypes, _LOSS))]
        yield f"with {loss}", hypes.replaced(with_value(hypes, _LOSS, loss))
    for stride in STRIDES:
        if lookup(hypes, f"{_ANCHORS}.feature_stride") != stride:
            yield f"with an anchor cell for every {stride} voxels", _with_stride(hypes, stride)
    if "heter" not in hypes:
        yield "with one agent", hypes.replaced(with_value(hypes, "train_params.max_cav", 1))
    else:
        names = list(section(hypes, "heter.modality_setting"))
        yield from ((f"on {name} alone", _with_only(hypes, name)) for name in names if len(names) > 1)


def _types(hypes: Hypes) -> dict[str, Mapping[str, Any]]:
    return {name: args for name, args in section(hypes, "model.args").items() if isinstance(args, Mapping)}


def _without_resizing(hypes: Hypes) -> Hypes:
    """The configuration whose adapters and reverters have as many cells per metre on both sides."""
    changed: Mapping[str, Any] = hypes
    for name, args in _types(hypes).items():
        for role in _TRANSLATORS:
            own = lookup(args, f"{role}.args.in_feature_shape")
            if own is not None:
                have, want = (lookup(args, f"{role}.args.{side}_cav_lidar_range") for side in ("in", "out"))
                shape = [
                    round(cells * (want[axis + 3] - want[axis]) / (have[axis + 3] - have[axis]))
                    for cells, axis in zip(own, (1, 0), strict=True)
                ]
                changed = with_value(changed, f"model.args.{name}.{role}.args.out_feature_shape", shape)
    return hypes.replaced(changed)


def _with_stride(hypes: Hypes, stride: int) -> Hypes:
    """The configuration with anchors on a map of another stride."""
    anchors: dict[str, Any] = {**section(hypes, _ANCHORS), "feature_stride": stride}
    if "anchor_generator_config" in anchors:
        by_class = anchors["anchor_generator_config"]
        anchors["anchor_generator_config"] = [{**entry, "feature_map_stride": stride} for entry in by_class]
    return hypes.replaced(with_value(hypes, _ANCHORS, anchors))


def _with_only(hypes: Hypes, name: str) -> Hypes:
    """The configuration with agents of one modality."""
    heter: Mapping[str, Any] = section(hypes, "heter")
    names = [*section(heter, "mapping_dict"), *heter["modality_setting"]]
    alone = {
        "ego_modality": name,
        "modality_setting": {name: heter["modality_setting"][name]},
        "mapping_dict": dict.fromkeys(names, name),
    }
    return hypes.replaced({**hypes, "heter": {**heter, **alone}})
