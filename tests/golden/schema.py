"""Which keys a ``case.yaml`` may hold, per family, and what the harness demands of each.

``setting``   the runner must read it (an unread setting would be silently ignored configuration);
``expected``  a wanted value: the runner must hand its own to ``case.check``;
``info``      text for people, or something the harness itself applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SETTING, EXPECTED, INFO = "setting", "expected", "info"


def _roles(setting: str = "", expected: str = "", info: str = "") -> dict[str, str]:
    roles = dict.fromkeys(setting.split(), SETTING)
    roles |= dict.fromkeys(expected.split(), EXPECTED)
    return roles | dict.fromkeys(info.split(), INFO)


# Allowed everywhere (general part of the conventions); all of them are text or applied by the harness.
GENERAL = _roles(
    info="what notes tolerance tolerance_note tolerance_grad ignore ignore_note slices packing crop keep_as_built "
    "reference kind"
)

FAMILIES: dict[str, dict[str, str]] = {
    "heal": _roles(
        setting="build string_outputs agent_modality_list mode grad_names running_stat_names",
        expected="output_keys reported_terms trainable_by_top_module batchnorm_mode_by_top_module "
        "no_grad_but_trainable merge rename",
        info="grad_norm_order running_stat_order",
    ),
    "eval": _roles(
        setting="postprocess preprocess order threshold iou_thresholds range gt_range bands agents classes dir_offset "
        "num_bins uncertainty_dim"
    ),
    "data": _roles(
        setting="build hypes seed preprocess postprocess data_augment data_aug_conf range train image depth assignment "
        "pcd_files voxel_size geometry",
        expected="len expect_keys expect_values cases lidar_channels derived",
        info="pcd_sums",
    ),
    "gencomm": _roles(
        setting="module args gencomm model loss agent_modality_list postprocess object_ids files assignment config",
        expected="trainable expected",
    ),
    "codealign": _roles(
        setting="model train_flag agent_modality_list record_len overrides loss cav_id_list build translator call "
        "input checkpoints paths configuration per_sample_modalities",
        expected="trainable_prefixes chosen_backend",
        info="procedure inputs",
    ),
    "coopre": _roles(
        setting="ranges iou_thresholds classes data_augment draws args loss wild_setting lr_scheduler optimizer "
        "iterations_per_epoch postprocess gt_range_used_for_final_filter model lidar_range max_points_per_voxel mode "
        "preprocess fusion cav_lidar_range gt_range comm_range sample_index train frames dataset_mode voxel_size",
        expected="expected",
        info="tree",
    ),
    "homogeneous": _roles(setting="build args", expected="output_keys", info="float64 cluster_source compare_samples"),
    "hmvit": _roles(
        setting="model agent_modality_list record_len loss",
        expected="parameters_without_gradient",
        info="build inputs outputs procedure",
    ),
    "e2e": _roles(
        setting="hypes training weights tool_overrides",
        expected="infer_init infer_trained result",
        info="noise split draw_order drop_connect",
    ),
}


def known_keys(family: str, declared: Mapping[str, str] | Iterable[str] | None = None) -> dict[str, str]:
    """Key -> role for a family; a runner's ``KNOWN_KEYS`` (names are settings, or a mapping to roles) comes on top."""
    extra = dict(declared) if isinstance(declared, Mapping) else dict.fromkeys(declared or (), SETTING)
    return GENERAL | FAMILIES.get(family, {}) | extra


def is_note(key: str) -> bool:
    """Remarks need no entry in the schema."""
    return key.endswith(("_note", "_notes"))
