"""Small configurations of CodeAlign on simulated OPV2V: two LiDAR modalities, and the stages of their detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from opencood.config.flavor import SHIPPED
from opencood.config.loader import Hypes, load_yaml
from opencood.config.save import save_config
from opencood.evaluation.files import write_yaml
from opencood.experiments.build import build_from_scratch

SMALL = [-25.6, -25.6, -3, 25.6, 25.6, 1]
CELLS = 32 * 32
PARTS = "sim/dairv2x/codealign"
LATE = {
    "layers_args": {
        "inplanes": 32, "layer_nums": [1], "layer_strides": [1], "num_filters": [32],
        "upsample_strides": [1], "num_upsample_filter": [32],
    },
    "shrink_header": {"kernal_size": [3], "stride": [1], "padding": [1], "dim": [32], "input_dim": 32},
    "head_args": {"in_head": 32},
}  # fmt: skip


def on_opv2v(file: Path, stage: str, data: Path, **changes: Any) -> Hypes:
    """A stage of ``sim/dairv2x/codealign`` on simulated OPV2V data, in a small range; ``changes`` on top."""
    grouped = not stage.startswith(("stage2", "infer"))
    name = stage.rpartition("/")[2][:2]
    content: dict[str, Any] = {
        "_base_": [str(SHIPPED / PARTS / f"{stage}.yaml"), *(() if grouped else (str(SHIPPED / PARTS / "_m1.yaml"),))],
        "_everywhere_": {"cav_lidar_range": SMALL, "lidar_range": SMALL, "gt_range": SMALL}
        | ({} if grouped else {"in_cav_lidar_range": SMALL, "out_cav_lidar_range": SMALL}),
        "data_dir": "_delete_",
        "root_dir": str(data / "train"),
        "validate_dir": str(data / "validate"),
        "test_dir": str(data / "test"),
        "fusion": {"dataset": "opv2v"},
        "comm_range": 70,
        "heter": {
            "assignment_path": "opv2v_4modality.json",
            "mapping_dict": {"_replace_": True, "m1": "m1", "m2": "m2", "m3": "m1", "m4": "m2"},
            "heter_group": [[name]] if grouped else [["m2"]],
        },
        "train_params": {"max_cav": 5, "batch_size": 1, "epoches": 1, "num_workers": 0, "max_train_batches": 2},
    }
    if stage.startswith("stage2"):  # m1 is there too, as it is where a library defines it
        content["model"] = {"args": {"aligner_model": {"m1": ""}}}
    lower = write_yaml(file.with_name(f"{file.stem}_base.yaml"), content)
    return load_yaml(write_yaml(file, {"_base_": str(lower), **changes}))


def late(file: Path, data: Path) -> Hypes:
    """Late fusion of both modalities: every agent detects with its own network."""
    base = on_opv2v(file.with_name("late_base.yaml"), "infer/m1m2", data)
    args = {key: base["model"]["args"][key] for key in ("lidar_range", "anchor_number", "dir_args")}
    args |= {m: {**base["model"]["args"][m], **LATE} for m in ("m1", "m2")}
    content = {**base, "fusion": {**base["fusion"], "core_method": "lateheter"}, "yaml_parser": "load_general_params"}
    content |= {"model": {"core_method": "heter_model_late", "args": args}, "name": "late"}
    content["loss"] = {**base["loss"], "core_method": "point_pillar_loss"}
    return base.replaced(content)


def run_folder(folder: Path, hypes: Hypes, epoch: int = 1) -> Path:
    """A run folder with a configuration and random weights."""
    save_config(hypes, folder)
    torch.manual_seed(0)
    torch.save(build_from_scratch(hypes).state_dict(), folder / f"net_epoch{epoch}.pth")
    return folder
