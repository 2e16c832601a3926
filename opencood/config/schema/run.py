"""How a run is named, trained and disturbed: top level, training, noise, components. Source: spec config.md 4."""

from __future__ import annotations

from opencood.config.kinds import (
    ANY,
    BOOL,
    INT,
    MAP,
    MAPS,
    NOT_NEGATIVE,
    NOTHING_LISTED,
    NUMBER,
    NUMBERS,
    PAIR,
    POSITIVE_INT,
    RANGE,
    TEXT,
    TEXTS,
    items,
    one_of,
)
from opencood.config.schema.key import REQUIRED, Key

SENSORS = items(one_of("lidar", "camera", "depth"), "lidar, camera, depth")

TOP = (
    Key("name", TEXT, REQUIRED, "run name, start of the log folder's name"),
    Key("note", ANY, None, "ignored"),
    Key("sub_name", ANY, None, "ignored"),
    Key("stage", ANY, None, "ignored (CoAlign: stage of box alignment)"),
    Key("flavor", TEXT, None, "repository whose meaning applies; derived when absent"),
    Key("parity", TEXT, None, "reproduce published quirks, or repair them (ours: fixed)"),
    Key("quirks", MAP, {}, "single quirk switches by name, see opencood/config/quirks.py"),
    Key("plugins", TEXT | TEXTS, [], "Python files that register components, imported before anything is built"),
    Key("seed", INT, 0, "start of every random generator of the run"),
    Key(
        "on_bad_frame",
        one_of("error", "skip"),
        "error",
        "a frame that cannot be read: stop, or count, report and skip it",
    ),
    Key(
        "missing_checkpoints",
        one_of("error", "scratch"),
        "error",
        "a checkpoint of an earlier stage that model.args names but is not there: stop, or start its parts anew",
    ),
    Key("use_prepared", BOOL, True, "voxels that a packed data set holds ready are used (docs/packing.md)"),
    Key("opencood_version", ANY, None, "stamp of saved files: the version that wrote them"),
    Key(
        "root_dir",
        TEXT | MAPS,
        REQUIRED,
        "training split: folder, DAIR-V2X split file, V2X-Sim pickle, or a list of data sets used together",
    ),
    Key("validate_dir", TEXT | MAPS, REQUIRED, "validation split"),
    Key("test_dir", TEXT | MAPS, None, "test split; the inference tools use it in the place of validate_dir"),
    Key("path_prefixes", MAP, {}, "V2X-Sim: {beginning of a stored path: folder here}"),
    Key("box_frame", one_of("lidar", "world"), None, "V2V4Real: where boxes are written; absent: as poses say"),
    Key("isSim", BOOL, False, "V2V4Real: boxes are written in the world"),
    Key("crop_range", RANGE, None, "points and boxes outside are left out; the grid of the model stays"),
    Key("labels", BOOL, None, "false: no list of objects is opened; absent: false in pretraining, else true"),
    Key("val", BOOL, False, "CodeAlign: validation in training, whose agents draw from the ego's modalities"),
    Key("root_dir_target", TEXT, None, "second training split of domain adaptation (V2V4Real)"),
    Key("data_dir", TEXT, None, "root of a DAIR-V2X data set (required there)"),
    Key("yaml_parser", TEXT | TEXTS, None, "parser(s) that fill in derived numbers, in order"),
    Key("yaml_parsers", MAP, None, "parser(s) by modality (STAMP), used without yaml_parser"),
    Key("train_params", MAP, REQUIRED, "how long and how to train"),
    Key("comm_range", NOT_NEGATIVE, 70, "metres; agents farther from the ego are dropped (CooPre: 50)"),
    Key(
        "input_source",
        items(one_of("lidar", "camera", "depth"), "lidar, camera, depth"),
        ["lidar"],
        "what is read from disk: lidar, camera, depth",
    ),
    Key("label_type", one_of("lidar", "camera"), "lidar", "all boxes in range, or those in the visibility map"),
    Key("cav_lidar_range", RANGE, None, "only a place for an anchor"),
    Key("dataset_mode", TEXT, None, "V2X-Real: who takes part (vc, v2v, ic, i2i)"),
    Key("add_data_extension", TEXTS, [], "extra files of each frame to read, such as bev_visibility.png"),
    Key("data_augment", MAPS, [], "world augmentations of training, in order"),
    Key("noise_setting", MAP, {"add_noise": False}, "pose noise (GenComm: also delay)"),
    Key("wild_setting", MAP, None, "pose noise and delay (OpenCOOD, V2V4Real, V2X-Real, CooPre)"),
    Key("perturb", MAP, None, "disturbances by name: pose_noise, delay, asynchrony, drop_agents, fog, snow..."),
    Key("channel", MAP, None, "what happens to messages in testing: drop, bit_error, precision, budget"),
    Key("ego_diff_cav", BOOL, False, "GenComm training: collaborators never have the ego's modality"),
    Key("verify_mode", ANY, False, "GenComm: a short training and validation set"),
    Key("only_vis_ego", BOOL, True, "late fusion pictures show the ego's points only"),
    Key("kd_flag", MAP | BOOL, None, "teacher of a distillation; true: only the samples for one"),
    Key("use_cav", INT, None, "how many agents are encoded (in-order evaluation)"),
    Key("box_align", MAP, None, "stored boxes that correct poses (CoAlign)"),
    Key("box_align_pre_calc", MAP, None, "detector that makes those boxes"),
    Key("heter", MAP, None, "agents with different sensors; its presence enables --range"),
    Key("modality_assignment", MAP, None, "assignment in place, wins over heter.assignment_path (CodeAlign)"),
    Key("task", MAP, None, "STAMP: task by modality"),
    Key("fusion", MAP, REQUIRED, "data set and collaboration scheme"),
    Key("preprocess", MAP, None, "point clouds to voxels or maps"),
    Key("postprocess", MAP, None, "anchors, targets, decoding"),
    Key("model", MAP, None, "detector"),
    Key("pretrain", MAP, None, "pretraining: what is hidden and what is reconstructed (docs/coopre.md)"),
    Key("init_from", MAP, None, "a checkpoint whose parts a training starts from (docs/coopre.md)"),
    Key("loss", MAP, None, "criterion"),
    Key("loss_adapter", MAP, None, "criterion of STAMP adapters"),
    Key("optimizer", MAP, None, "optimiser"),
    Key("lr_scheduler", MAP, None, "learning-rate schedule"),
)

TRAIN_PARAMS = (
    Key("batch_size", POSITIVE_INT, REQUIRED, "samples per step (and process)"),
    Key("epoches", POSITIVE_INT, REQUIRED, "number of epochs"),
    Key("eval_freq", POSITIVE_INT, REQUIRED, "validate every so many epochs"),
    Key("save_freq", POSITIVE_INT, REQUIRED, "save a checkpoint every so many epochs"),
    Key("max_cav", POSITIVE_INT, 5, "most agents of a sample, ego included (CooPre: 4)"),
    Key("random_ego", BOOL, None, "V2X-Real: any agent may be ego in training; absent: true (CooPre: false)"),
    Key("label_fraction", NUMBER, None, "share of the training frames that is used; the choice is saved"),
    Key("label_unit", one_of("frame", "scenario"), "frame", "what the share is drawn of"),
    Key("label_seed", INT, 42, "of that draw"),
    Key("single_weight", NUMBER, 1, "weight of the per-agent supervision loss"),
    Key("max_train_batches", POSITIVE_INT, None, "shorten training epochs (CodeAlign)"),
    Key("max_val_batches", POSITIVE_INT, None, "shorten validation (CodeAlign)"),
    Key("data_balance", BOOL, False, "stage 2: draw backends with a large validation loss more often (CodeAlign)"),
    Key("skip_post_train_eval", BOOL, False, "do not test after training (CodeAlign)"),
    Key("grad_clip", NOT_NEGATIVE, None, "largest norm of the gradient; absent: no clipping"),
    Key("num_workers", INT, 4, "loader processes"),
    Key("last_every_minutes", NOT_NEGATIVE, 10, "minutes between saves of last.ckpt"),
    Key("last_every_steps", POSITIVE_INT, None, "steps between saves of last.ckpt"),
    Key("print_every", POSITIVE_INT, None, "print every so many steps; absent: each one, or a progress bar"),
    Key("compile", BOOL, False, "compile the dense part of the detector with torch.compile"),
    Key("seed", INT, None, "older place of seed"),
)

NOISE = (
    Key("add_noise", BOOL, REQUIRED, "whether poses are disturbed"),
    Key("args", MAP, {}, "pos_std, rot_std, pos_mean, rot_mean (metres, degrees), laplace"),
    Key("add_pose_noise", BOOL, None, "GenComm: pose noise proper"),
    Key("add_async_noise", BOOL, False, "GenComm: delay"),
    Key(
        "async_args",
        MAP,
        None,
        "async_mode, async_method, async_overhead, backbone_delay (ms), data_size, transmission_speed",
    ),
)

NOISE_ARGS = (
    Key("pos_std", NOT_NEGATIVE, 0, "metres"),
    Key("pos_mean", NUMBER, 0, "metres"),
    Key("rot_std", NOT_NEGATIVE, 0, "degrees"),
    Key("rot_mean", NUMBER, 0, "degrees"),
    Key("laplace", BOOL, False, "Laplace noise instead of Gaussian"),
)

BOX_ALIGN = (
    Key("train_result", TEXT, None, "stored boxes of root_dir"),
    Key("val_result", TEXT, None, "of validate_dir"),
    Key("test_result", TEXT, None, "of test_dir"),
    Key("args", MAP, {}, "how they correct poses: use_uncertainty, landmark_SE2, adaptive_landmark, thres..."),
)

BOX_ALIGN_PRE_CALC = (
    Key("stage1_model", TEXT, None, "core_method of the detector"),
    Key("stage1_model_config", MAP, None, "its model.args"),
    Key("stage1_model_path", TEXT, None, "its checkpoint, or its run folder"),
    Key("stage1_postprocessor_name", TEXT, None, "such as uncertainty_voxel_postprocessor"),
    Key("stage1_postprocessor_config", MAP, None, "its postprocess section"),
    Key("output_save_path", TEXT, None, "folder for {train,val,test}/stage1_boxes.json"),
)

SPLIT = (
    Key("path", TEXT, REQUIRED, "folder or file of one data set"),
    Key("dataset", TEXT, None, "its format; absent: fusion.dataset"),
    Key("mode", TEXT, None, "its dataset_mode"),
    Key("range", RANGE, None, "its crop_range"),
    Key("set", MAP, {}, "further keys of the configuration that hold for it alone"),
)

WILD = (
    Key("async", BOOL, False, "whether collaborators are late"),
    Key("async_mode", TEXT, "sim", "sim: fixed delay; real: drawn"),
    Key("async_overhead", NUMBER, 0, "delay, ms"),
    Key("backbone_delay", NUMBER, 0, "computing time, ms"),
    Key("data_size", NUMBER, 0, "message size, Mb"),
    Key("transmission_speed", NUMBER, None, "Mb/s"),
    Key("seed", INT, 20, "seed of the noise"),
    Key("loc_err", BOOL, False, "whether poses are disturbed"),
    Key("xyz_std", NUMBER, 0, "metres"),
    Key("ryp_std", NUMBER, 0, "degrees"),
)

AUGMENTATION = (
    Key("NAME", TEXT, REQUIRED, "random_world_flip, random_world_rotation, random_world_scaling, ..."),
    Key("ALONG_AXIS_LIST", TEXTS, None, "axes that may be mirrored"),
    Key("WORLD_ROT_ANGLE", PAIR, None, "range of the rotation, radians"),
    Key("WORLD_SCALE_RANGE", PAIR, None, "range of the scale"),
    Key("DOWNSAMPLE_RATIO", NUMBERS, None, "[share of the points that random_lidar_downsampling keeps]"),
)

COMPONENT = (
    Key("core_method", TEXT, REQUIRED, "component"),
    Key("args", MAP | NOTHING_LISTED, {}, "its arguments"),
    Key("flavor", TEXT, None, "as at the top level"),
)

OPTIMIZER = (
    Key("core_method", TEXT, REQUIRED, "any class of torch.optim"),
    Key("lr", NUMBER, REQUIRED, "learning rate"),
    Key("args", MAP, {}, "further arguments of that class"),
    Key("codebook_lr_rate", NUMBER, 1, "factor for parameters whose name contains codebook (CodeAlign)"),
)

LR_SCHEDULER = (
    Key("core_method", TEXT, REQUIRED, "step, multistep, exponential, cosineannealwarm"),
    Key("gamma", NUMBER, None, "factor of each drop"),
    Key("step_size", INT | NUMBERS, None, "epochs between drops (step), or of the drops (multistep)"),
    Key("epoches", POSITIVE_INT, None, "length of the cosine, epochs"),
    Key("warmup_lr", NUMBER, None, "rate at the start"),
    Key("warmup_epoches", INT, None, "length of the warm-up"),
    Key("lr_min", NUMBER, None, "rate at the end"),
    Key("per", one_of("epoch", "step"), "epoch", "how often the rate changes"),
)

KD_FLAG = (
    Key("teacher_model", TEXT, REQUIRED, "teacher's core_method"),
    Key("teacher_model_config", MAP, REQUIRED, "teacher's arguments"),
    Key("teacher_path", TEXT, REQUIRED, "teacher's checkpoint"),
)
