"""The table of quirk switches: what a published system does, and what we do instead.

A component that can behave in both ways asks ``opencood.config.flavor.quirk(hypes, name)``. A value that differs
between repositories is written as ``PerFlavor``. One switch is set by hand with ``quirks: {name: value}`` in the YAML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PerFlavor:
    """A value by repository, with a default for those not named."""

    default: Any
    by_flavor: dict[str, Any] = field(default_factory=dict)

    def of(self, flavor: str) -> Any:
        """Value of one repository."""
        return self.by_flavor.get(flavor, self.default)


@dataclass(frozen=True)
class Quirk:
    """One switch: its values under both parities, what it means, and where the specification says so."""

    published: Any
    fixed: Any
    meaning: str
    source: str

    def value(self, flavor: str, parity: str) -> Any:
        """Value for a repository and a parity."""
        chosen = self.published if parity == "published" else self.fixed
        return chosen.of(flavor) if isinstance(chosen, PerFlavor) else chosen


_OPENCOOD_FAMILY_SORTS_PER_FRAME = dict.fromkeys(("opencood", "coopre", "v2xreal", "v2v4real"), False)
_MAX_CAV = PerFlavor(5, {"coopre": 4})
_OPENCOOD_FAMILY_PROJECTS = PerFlavor(False, dict.fromkeys(("opencood", "coopre", "v2xreal", "v2v4real"), True))
_COMM_RANGE = PerFlavor(70, {"coopre": 50})

QUIRKS: dict[str, Quirk] = {
    # configuration
    "grid_from_float_quotient": Quirk(
        True,
        False,
        "Grid sizes round the floating quotient as it is (201.6/0.1 gives 2015); False: an integer within 1e-6 counts.",
        "config.md 2",
    ),
    "second_grid_rounding": Quirk(
        PerFlavor("truncate", {"coopre": "ceil"}),
        PerFlavor("truncate", {"coopre": "ceil"}),
        "How load_second_params rounds W, H, D.",
        "config.md 2",
    ),
    # data
    "default_max_cav": Quirk(_MAX_CAV, _MAX_CAV, "train_params.max_cav when absent.", "config.md 4"),
    "default_proj_first": Quirk(
        _OPENCOOD_FAMILY_PROJECTS,
        _OPENCOOD_FAMILY_PROJECTS,
        "fusion.args.proj_first when absent.",
        "homogeneous.md 1, golden coopre/v2xreal_sample_*",
    ),
    "default_random_ego": Quirk(
        PerFlavor(True, {"coopre": False}),
        PerFlavor(True, {"coopre": False}),
        "train_params.random_ego when absent (V2X-Real).",
        "coopre.md 11.1",
    ),
    "test_max_cav": Quirk(
        PerFlavor(None, {"codealign": 5}),
        None,
        "In testing so many agents take part at most where a file assigns modalities, whatever max_cav says.",
        "data.md 3.4",
    ),
    "modality_overrides_mode": Quirk(
        True,
        False,
        "V2X-Real: where the first agent of dataset_mode may not be ego, agents that the mode excludes come back.",
        "gencomm.md 8",
    ),
    "ego_diff_cav_in_test": Quirk(
        True, False, "ego_diff_cav draws modalities in testing too and leaves the assignment aside.", "gencomm.md 7"
    ),
    "default_comm_range": Quirk(_COMM_RANGE, _COMM_RANGE, "comm_range in metres when absent.", "config.md 4"),
    "single_labels_noisy_pose": Quirk(
        True, False, "Labels for per-agent supervision are placed by the agent's noisy own pose.", "data.md Q5"
    ),
    "visualize_lidar_labels": Quirk(
        True, False, "Evaluation (visualize) uses LiDAR labels although label_type is camera.", "data.md Q4"
    ),
    "delay_pose_only": Quirk(
        True, False, "A delayed agent has an old pose but current sensor data; False: both are old.", "data.md Q9"
    ),
    "noise_needs_add_pose_noise": Quirk(
        PerFlavor(False, {"gencomm": True}),
        False,
        "Pose noise needs noise_setting.add_pose_noise besides add_noise.",
        "data.md Q10",
    ),
    "loc_err_constant": Quirk(
        True,
        False,
        "wild_setting.loc_err in testing: one offset for all agents and frames; False: drawn for each.",
        "coopre.md 11.4, Q7",
    ),
    "loc_err_intermediate_only": Quirk(
        True, False, "wild_setting.loc_err reaches intermediate fusion only; False: every kind.", "coopre.md Q7"
    ),
    "box_align_in_heter": Quirk(
        PerFlavor(True, {"gencomm": False}),
        True,
        "box_align corrects poses in heterogeneous samples too.",
        "data.md 4",
    ),
    "early_ignores_noise": Quirk(True, False, "Early fusion reads noise_setting but adds no noise.", "data.md Q18"),
    # models
    "camera_crop_mask": Quirk(
        PerFlavor(True, {"codealign": False}),
        PerFlavor(True, {"codealign": False}),
        "Pyramid fusion masks the area outside a camera's grid in evaluation.",
        "models.md 3.3, codealign.md 25",
    ),
    "camera_crop_mask_wrapped": Quirk(
        True, False, "A crop mask larger than the map wraps around by negative indices.", "models.md 3.3"
    ),
    "codebook_samples_in_eval": Quirk(
        True, False, "Codebooks draw words in evaluation too; False: the nearest word.", "codealign.md 1, quirk 1"
    ),
    "code_terms_flat_modalities": Quirk(
        True,
        False,
        "Code losses index the batch's modality list from 0 for every sample; False: each sample has its own.",
        "codealign.md quirk 19",
    ),
    "even_agents_bypass_mask": Quirk(
        True,
        False,
        "heter_model_shared_head fuses agents at even positions without their mask and reports the ego's own rate.",
        "codealign.md quirk 31",
    ),
    "gt_boxes_transposed": Quirk(
        True,
        False,
        "InstanceSimLoss reads gt_boxes as columns first although the data set writes rows first.",
        "codealign.md quirk 34",
    ),
    "codebook_draws_in_test": Quirk(
        True, False, "CodeFilling draws its words in evaluation too; False: the likeliest words.", "gencomm.md 4.1"
    ),
    "generator_start": Quirk(
        "ego",
        "warped_ego",
        "What GenComm's sampler starts from: ego, warped_ego (as the sender sees it) or noise.",
        "gencomm.md Q4",
    ),
    "generator_keeps_ego_feature": Quirk(
        False,
        True,
        "GenComm: the ego keeps its own feature instead of one generated from its message.",
        "gencomm.md Q3",
    ),
    "missing_message_by_method": Quirk(
        True,
        False,
        "missing_message damages each method by a level of its own; False: all lose a tenth of what they read.",
        "gencomm.md Q6, 6.4",
    ),
    "v2vnet_maps_about_centre": Quirk(
        PerFlavor(True, {"v2xreal": False}),
        True,
        "V2VNet of the OpenCOOD family turns maps about their centre; False: about their first cell.",
        "homogeneous.md 3.4",
    ),
    "mash_keeps_unmatched": Quirk(
        True, False, "MASH fetches the cells without a match instead of those with one.", "homogeneous.md 3.10"
    ),
    "mash_half_precision": Quirk(True, False, "MASH rounds distances to half precision.", "homogeneous.md 3.10"),
    "v2vnet_robust_constant_overlap": Quirk(
        True, False, "Robust V2VNet takes all agents to overlap alike.", "homogeneous.md 3.11"
    ),
    "v2vnet_masks_about_centre": Quirk(
        False,
        True,
        "V2VNet of the OpenCOOD family turns the masks of what a neighbour covers about the centre, as its map.",
        "homogeneous.md 3.4",
    ),
    "pretraining_fine_targets": Quirk(
        True,
        False,
        "CooPre's target points are divided by backbone_3d.voxel_size, whatever it says; False: by the cell.",
        "coopre.md Q1",
    ),
    "pretraining_idle_backbone": Quirk(
        True, False, "CooPre's pretraining holds a 2D backbone that is never run, for its checkpoint.", "coopre.md 3"
    ),
    "pretraining_reads_labels": Quirk(
        True,
        False,
        "Pretraining opens lists of objects unless labels: false says otherwise, and leaves out frames without any.",
        "coopre.md 1",
    ),
    "pretraining_copies_idle_backbone": Quirk(
        True, False, "A training takes over the 2D backbone that pretraining never ran.", "coopre.md 7"
    ),
    "calibrates_logits": Quirk(
        True, False, "STAMP's calibrators are given logits; False: probabilities.", "homogeneous.md 5"
    ),
    # losses
    "loss_marked_negatives": Quirk(
        PerFlavor(False, {"v2v4real": True}),
        PerFlavor(False, {"v2v4real": True}),
        "OpenCOOD's anchor loss takes marked negatives only; False: every anchor that is not positive.",
        "homogeneous.md 6",
    ),
    "domain_classifiers_train": Quirk(
        False,
        True,
        "V2V4Real's classifiers of domains learn; False: they stay as they begin, out of the published optimiser.",
        "homogeneous.md 3.12",
    ),
    # training
    "resume_lr_offset": Quirk(
        True, False, "The first resumed epoch uses the rate for its own index, one epoch early.", "e2e.md, tools.md 2"
    ),
    "scheduler_before_epoch": Quirk(
        PerFlavor(False, {"coopre": True}),
        PerFlavor(False, {"coopre": True}),
        "The scheduler steps before an epoch instead of after it.",
        "tools.md 2",
    ),
    "validation_shuffled_drop_last": Quirk(
        True, False, "Validation is shuffled and drops the last incomplete batch.", "tools.md 2"
    ),
    # evaluation
    "inference_range": Quirk(
        PerFlavor((102.4, 102.4), {"gencomm": (102.4, 51.2), "stamp": (102.4, 51.2)}),
        None,
        "Default of --range for heterogeneous files in metres (x, y); None: the configured range.",
        "tools.md 3",
    ),
    "inference_range_in_order": Quirk(
        PerFlavor((204.8, 102.4), {"gencomm": (102.4, 51.2), "stamp": (102.4, 51.2)}),
        None,
        "The same for inference_heter_in_order.",
        "tools.md 3",
    ),
    "in_order_fixed_roster": Quirk(
        PerFlavor(True, {"codealign": False}),
        False,
        "In-order inference maps m1..m4 to themselves; False: what the file says.",
        "tools.md 3",
    ),
    "in_order_fixed_beams": Quirk(
        True, False, "In-order inference reads m3 with 32 beams; False: what the file says.", "tools.md 3"
    ),
    "pairs_fixed_score_threshold": Quirk(
        0.2, None, "The pair average replaces every score_threshold; None: what the file says.", "codealign.md 7"
    ),
    "ap_global_sort": Quirk(
        PerFlavor(True, _OPENCOOD_FAMILY_SORTS_PER_FRAME),
        True,
        "The AP that is printed first sorts all detections of the data set; False: frame after frame.",
        "evaluation.md 7",
    ),
}
