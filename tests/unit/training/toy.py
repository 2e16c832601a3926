"""A detector, a data set and a run that are small enough to train within milliseconds.

``python -m tests.unit.training.toy FOLDER EPOCHS [STOP_AFTER]`` trains in FOLDER, resuming what is there; with
STOP_AFTER the process kills itself (SIGKILL) once that many samples were loaded.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from opencood.losses.point_pillar import PointPillarLoss
from opencood.training.loop import Trainer
from opencood.training.optimizers import build_optimizer
from opencood.training.schedules import build_schedule
from opencood.training.settings import Settings

H, W, ANCHORS = 4, 6, 2
OPTIMIZER = {"core_method": "Adam", "lr": 0.01, "args": {"eps": 1e-10, "weight_decay": 1e-4}}
SCHEDULE = {"core_method": "multistep", "gamma": 0.1, "step_size": [1]}


class ToyDataset:
    """Random maps with random targets; a sample is a function of (epoch, index). ``empty`` samples have no object."""

    def __init__(self, length=12, empty=(), missing=(), supervise_single=False, stop_after=None):
        self.length, self.empty, self.missing, self.epoch = length, set(empty), set(missing), 0
        self.supervise_single = supervise_single
        self.stop_after, self.served = stop_after, 0

    def __len__(self):
        return self.length

    def reinitialize(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        self.served += 1
        if self.stop_after is not None and self.served > self.stop_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if index in self.missing:
            return None
        rng = np.random.default_rng([self.epoch, index])
        positive = np.zeros((H, W, ANCHORS)) if index in self.empty else (rng.random((H, W, ANCHORS)) < 0.2) * 1.0
        return {
            "x": rng.standard_normal((3, H, W)).astype(np.float32),
            "pos_equal_one": positive,
            "neg_equal_one": 1 - positive,
            "targets": rng.standard_normal((H, W, 7 * ANCHORS)),
            "object_bbx_mask": np.full(5, float(index not in self.empty)),
        }

    def collate_batch_train(self, samples):
        stacked = {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}
        labels = {key: stacked[key] for key in ("pos_equal_one", "neg_equal_one", "targets")}
        return {
            "ego": {
                "x": stacked["x"],
                "object_bbx_mask": stacked["object_bbx_mask"],
                "label_dict": labels,
                "label_dict_single": labels,
            }
        }


class ToyDetector(nn.Module):
    """One convolution, batch norm, dropout, three heads; ``never`` is a parameter without a gradient."""

    def __init__(self, dropout=0.0, frozen_norm=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(dropout)
        self.cls_head = nn.Conv2d(8, ANCHORS, 1)
        self.reg_head = nn.Conv2d(8, 7 * ANCHORS, 1)
        self.dir_head = nn.Conv2d(8, 2 * ANCHORS, 1)
        self.never = nn.Linear(2, 2)
        self.frozen_norm = frozen_norm
        self.seen_epochs = []

    def train(self, mode=True):
        super().train(mode)
        if self.frozen_norm:
            self.norm.eval()
        return self

    def forward(self, ego):
        self.seen_epochs.append(ego.get("epoch"))
        x = self.drop(torch.relu(self.norm(self.conv(ego["x"].to(self.conv.weight.dtype)))))
        heads = {"cls_preds": self.cls_head(x), "reg_preds": self.reg_head(x), "dir_preds": self.dir_head(x)}
        return heads | {f"{name}_single": value for name, value in heads.items()}


def toy_loss():
    direction = {"weight": 0.2, "args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]}}
    return PointPillarLoss(2.0, {"alpha": 0.25, "gamma": 2.0, "weight": 1.0}, {"sigma": 3.0, "weight": 2.0}, direction)


def toy_model(**options):
    torch.manual_seed(0)
    return ToyDetector(**options)


def toy_trainer(folder, dataset=None, validation=None, model=None, loss=None, **settings):
    settings = {"epochs": 3, "batch_size": 2, "print_every": 0, **settings}
    model = model if model is not None else toy_model(dropout=0.3)
    extra = {key: settings.pop(key) for key in ("world", "diagnose", "targets") if key in settings}
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Trainer(
        model,
        loss or toy_loss(),
        dataset if dataset is not None else ToyDataset(),
        validation if validation is not None else ToyDataset(5),
        Settings(**settings),
        Path(folder),
        optimizer=build_optimizer(model, OPTIMIZER),
        schedule=build_schedule(SCHEDULE),
        **extra,
    )


def main():
    torch.set_num_threads(1)
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    stop_after = int(sys.argv[3]) if len(sys.argv) > 3 else None
    dataset = ToyDataset(stop_after=stop_after)
    trainer = toy_trainer(folder, dataset, epochs=epochs, last_every_steps=1, workers=int(os.environ.get("WORKERS", 0)))
    trainer.resume()
    trainer.fit()


if __name__ == "__main__":
    main()
