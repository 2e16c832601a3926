"""The heads of CIA-SSD: boxes, classes, overlap and direction (spec models.md 4.2, homogeneous.md 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from opencood.models.heads.anchor import box_head, class_head
from opencood.models.scene import SceneFeatures
from opencood.registry import register

# Published names of the outputs of the convolutions, and those inside ``stage1_out``.
OUTPUTS = {"conv_box": "reg_preds", "conv_cls": "cls_preds", "conv_dir": "dir_preds", "conv_iou": "iou_preds"}
STAGE_OUTPUTS = {"conv_box": "box_preds", "conv_cls": "cls_preds", "conv_dir": "dir_cls_preds", "conv_iou": "iou_preds"}


@register("head", "ssfa")
class SsfaHead(nn.Module):
    """1x1 convolutions ``conv_box``, ``conv_cls``, ``conv_iou`` (without bias) and ``conv_dir``.

    Args:
        num_input: channels that arrive.
        num_pred: box numbers of a cell, over all anchors.
        num_cls: class logits of a cell.
        num_iou: overlaps of a cell.
        use_dir: whether there are directions.
        num_dir: direction bins of a cell, over all anchors.
        stage: name under which all outputs are published together; empty when each is by itself.
    """

    def __init__(
        self,
        num_input: int,
        num_pred: int,
        num_cls: int,
        num_iou: int = 2,
        use_dir: bool = False,
        num_dir: int = 0,
        stage: str = "",
    ) -> None:
        super().__init__()
        self.in_channels = num_input
        self.stage = stage
        self.conv_box = box_head(num_input, num_pred, numbers=1)
        self.conv_cls = class_head(num_input, num_cls)
        self.conv_iou = nn.Conv2d(num_input, num_iou, 1, bias=False)
        if use_dir:
            self.conv_dir = nn.Conv2d(num_input, num_dir, 1)

    def forward(self, scene: SceneFeatures) -> Mapping[str, Any]:
        """Maps (N, channels, H, W) by their published names."""
        names = STAGE_OUTPUTS if self.stage else OUTPUTS
        outputs = {names[name]: head(scene.map) for name, head in self.named_children()}
        return {self.stage: outputs} if self.stage else outputs
