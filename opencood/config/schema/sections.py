"""The table of configuration sections: every key with its kind, its default and its meaning.

``checks`` tests files against it, ``hypes_yaml/exemplar.yaml`` explains it. What is below ``model.args``,
``loss.args``, ``optimizer.args`` and ``preprocess.args`` is not here: there a component's constructor is the schema.

A section path uses ``*`` for any key (a modality name) and ``[]`` for any list item. Source: spec config.md section 4.
"""

from __future__ import annotations

from opencood.config.schema.agents import DATA_AUG_CONF, FUSION, FUSION_ARGS, GRID_CONF, HETER, MODALITY, PREPROCESS
from opencood.config.schema.boxes import ANCHOR_ARGS, ANCHOR_CLASS, DIR_ARGS, POSTPROCESS, TARGET_ARGS
from opencood.config.schema.key import Key
from opencood.config.schema.pretrain import CONTRAST, DECODER, INIT_FROM, MASK, POINTS, PRETRAIN
from opencood.config.schema.run import (
    AUGMENTATION,
    BOX_ALIGN,
    BOX_ALIGN_PRE_CALC,
    COMPONENT,
    KD_FLAG,
    LR_SCHEDULER,
    NOISE,
    NOISE_ARGS,
    OPTIMIZER,
    SPLIT,
    TOP,
    TRAIN_PARAMS,
    WILD,
)

_ANCHORED = {
    "": POSTPROCESS,
    ".anchor_args": ANCHOR_ARGS,
    ".anchor_args.anchor_generator_config[]": ANCHOR_CLASS,
    ".target_args": TARGET_ARGS,
    ".dir_args": DIR_ARGS,
}
_MODALITIES = "heter.modality_setting.*"

SECTIONS: dict[str, tuple[Key, ...]] = {
    "": TOP,
    "train_params": TRAIN_PARAMS,
    "noise_setting": NOISE,
    "noise_setting.args": NOISE_ARGS,
    "wild_setting": WILD,
    "box_align": BOX_ALIGN,
    "box_align_pre_calc": BOX_ALIGN_PRE_CALC,
    "data_augment[]": AUGMENTATION,
    **{f"{split}[]": SPLIT for split in ("root_dir", "validate_dir", "test_dir")},
    "kd_flag": KD_FLAG,
    "heter": HETER,
    _MODALITIES: MODALITY,
    f"{_MODALITIES}.preprocess": PREPROCESS,
    **{f"{_MODALITIES}.postprocess{below}": keys for below, keys in _ANCHORED.items()},
    f"{_MODALITIES}.grid_conf": GRID_CONF,
    f"{_MODALITIES}.data_aug_conf": DATA_AUG_CONF,
    "fusion": FUSION,
    "fusion.args": FUSION_ARGS,
    "preprocess": PREPROCESS,
    **{f"postprocess{below}": keys for below, keys in _ANCHORED.items()},
    "model": COMPONENT,
    "pretrain": PRETRAIN,
    "pretrain.mask": MASK,
    "pretrain.points": POINTS,
    "pretrain.decoder": DECODER,
    "pretrain.contrast": CONTRAST,
    "pretrain.contrast.views[]": AUGMENTATION,
    "init_from": INIT_FROM,
    "optimizer": OPTIMIZER,
    "lr_scheduler": LR_SCHEDULER,
}

# Their required keys are needed by training only: files for viewing or pre-computing data have no optimizer.
TRAINING_SECTIONS = ("train_params",)
