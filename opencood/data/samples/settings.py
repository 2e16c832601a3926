"""What the samples need to know, read from the hypes once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opencood.config.flavor import flavor_of, parity_of, quirk
from opencood.config.pretrain import is_pretraining
from opencood.config.tree import given
from opencood.data.augment import WorldAugmentation, build_augmentation
from opencood.data.readers.base import OPV2V, Conventions
from opencood.data.samples.by_modality import sections_of_ego
from opencood.errors import ConfigError
from opencood.registry import REGISTRY

_LABEL_TYPES = ("lidar", "camera")


@dataclass(frozen=True)
class SampleSettings:
    """Settings of the sample classes; ranges are ``[x0, y0, z0, x1, y1, z1]`` in metres.

    Attributes:
        hypes: the whole configuration.
        train: training or testing.
        visualize: testing also returns the raw clouds.
        comm_range: agents farther from the ego are left out, metres.
        max_cav: size of the pairwise matrix.
        max_num: rows of the padded boxes.
        order: order of the box sizes.
        label_type: ``lidar`` (all objects in range) or ``camera`` (objects that the cameras see).
        label_range: range of the ground truth: the anchors' in training, ``gt_range`` in testing.
        anchor_range: range of the anchors.
        point_range: range of the points that are kept (early, late, teacher clouds).
        proj_first: clouds are moved to the ego's frame before they are encoded.
        supervise_single: labels of each agent alone are wanted.
        postprocessor: makes anchors and targets.
        augmentation: applied by early and late training samples.
        crop_range: points, in the frame they are encoded in, and boxes outside are left out; None = as the grid says.
        labels: whether there is any ground truth; without it batches have no boxes and no targets (pretraining).
        conventions: how labels and names of the data set are to be read.
    """

    hypes: Mapping[str, Any]
    train: bool
    visualize: bool
    comm_range: float
    max_cav: int
    max_num: int
    order: str
    label_type: str
    label_range: tuple[float, ...]
    anchor_range: tuple[float, ...]
    point_range: tuple[float, ...]
    proj_first: bool
    supervise_single: bool
    postprocessor: Any
    augmentation: WorldAugmentation
    conventions: Conventions = OPV2V
    labels: bool = True
    crop_range: tuple[float, ...] | None = None

    def quirk(self, name: str) -> Any:
        """Value of a quirk switch for this configuration."""
        return quirk(self.hypes, name)

    @property
    def several_classes(self) -> bool:
        """Whether boxes carry a class, because the head has several."""
        return "anchor_generator_config" in self.hypes["postprocess"]["anchor_args"]

    @property
    def sizes_in_space(self) -> bool:
        """Whether box sizes are those of the file even for tilted boxes (V2X-Real's own code, spec coopre.md 11.1)."""
        return flavor_of(self.hypes) in ("coopre", "v2xreal")

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Sides (x, y, z) of a cell in metres, by which maps of labels are drawn."""
        given_size = self.hypes["postprocess"].get("voxel_size")
        if given_size is None:
            args = (self.hypes.get("preprocess") or {}).get("args") or {}
            given_size = _needed(args, "voxel_size", "preprocess.args")
        return tuple(float(side) for side in given_size)

    @property
    def published(self) -> bool:
        """Whether published behaviour is reproduced, defects included."""
        return parity_of(self.hypes) == "published"


def read_settings(
    hypes: Mapping[str, Any],
    train: bool,
    visualize: bool = False,
    conventions: Conventions = OPV2V,
) -> SampleSettings:
    """Read the settings of a configuration whose parser has run.

    Raises:
        ConfigError: a section or key is missing or has no legal value.
    """
    hypes = sections_of_ego(hypes)
    postprocess, preprocess = _section(hypes, "postprocess"), _section(hypes, "preprocess")
    anchor_range = _range(
        _section(postprocess, "anchor_args", "postprocess"), "cav_lidar_range", "postprocess.anchor_args"
    )
    if given(postprocess, "gt_range") is None and conventions.default_gt_range is not None:
        postprocess = {**postprocess, "gt_range": conventions.default_gt_range}
    label_type = hypes.get("label_type", "lidar")
    if label_type not in _LABEL_TYPES:
        raise ConfigError(f"label_type: '{label_type}' is none of {', '.join(_LABEL_TYPES)}.")
    fusion_args = _section(hypes, "fusion").get("args") or {}
    usual_range = conventions.default_comm_range or quirk(hypes, "default_comm_range")
    model_args = (hypes.get("model") or {}).get("args") or {}
    return SampleSettings(
        hypes=hypes,
        train=train,
        visualize=visualize,
        comm_range=float(hypes.get("comm_range", usual_range)),
        max_cav=max_cav_of(hypes, train, conventions),
        max_num=int(_needed(postprocess, "max_num", "postprocess")),
        order=str(_needed(postprocess, "order", "postprocess")),
        label_type=label_type,
        label_range=anchor_range if train else _range(postprocess, "gt_range", "postprocess"),
        anchor_range=anchor_range,
        point_range=_range(preprocess, "cav_lidar_range", "preprocess"),
        proj_first=bool(fusion_args.get("proj_first", quirk(hypes, "default_proj_first"))),
        supervise_single=bool(model_args.get("supervise_single", False)),
        postprocessor=REGISTRY.build(
            "postprocessor",
            _needed(postprocess, "core_method", "postprocess"),
            {"section": postprocess},
            where="postprocess",
            train=train,
        ),
        augmentation=build_augmentation(given(hypes, "data_augment") if train else None),
        conventions=conventions,
        labels=bool(hypes.get("labels", not is_pretraining(hypes) or quirk(hypes, "pretraining_reads_labels"))),
        crop_range=None if given(hypes, "crop_range") is None else _range(hypes, "crop_range", ""),
    )


def max_cav_of(hypes: Mapping[str, Any], train: bool = True, conventions: Conventions = OPV2V) -> int:
    """Largest number of agents in a sample."""
    assigned = given(given(hypes, "heter") or {}, "assignment_path") is not None
    forced = quirk(hypes, "test_max_cav") if assigned and not train else None
    if forced is not None:
        return int(forced)
    usual = conventions.default_max_cav or quirk(hypes, "default_max_cav")
    return int((hypes.get("train_params") or {}).get("max_cav", usual))


def _needed(section: Mapping[str, Any], key: str, where: str) -> Any:
    if section.get(key) is None:
        raise ConfigError(f"{where}.{key}: missing.")
    return section[key]


def _section(hypes: Mapping[str, Any], name: str, parent: str = "") -> Mapping[str, Any]:
    found = hypes.get(name)
    if not isinstance(found, Mapping):
        raise ConfigError(f"{parent + '.' if parent else ''}{name}: a section (map) is needed here.")
    return found


def _range(section: Mapping[str, Any], key: str, where: str) -> tuple[float, ...]:
    limits = tuple(float(value) for value in _needed(section, key, where))
    if len(limits) != 6 or any(low >= high for low, high in zip(limits[:3], limits[3:], strict=True)):
        place = f"{where}.{key}" if where else key
        raise ConfigError(f"{place}: expected [x0, y0, z0, x1, y1, z1] with x0 < x1 and so on, found {list(limits)}.")
    return limits
