"""The value that travels between agents, and the three kinds of content every fusion method is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Message:
    """Named tensors that one agent (or, on the training path, a batch of agents) sends.

    Attributes:
        tensors: what is sent. Links put agents on the first axis, so a message of one agent has length 1 there. A name
            that starts with ``_`` stays at home: it exists where all agents share one memory (training, and evaluation
            without a channel), and never reaches a channel.
        kind: what a receiver may expect (``features``, ``points``, ``boxes``, or a link's own word).
        kept: what the sender keeps for the losses of training. It has no bytes: a decoded message never has any.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    kind: str = "features"
    kept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sent(self) -> dict[str, Tensor]:
        """The tensors that go over a channel."""
        return {name: tensor for name, tensor in self.tensors.items() if not name.startswith("_")}

    def to(self, device: torch.device | str) -> Message:
        """The same message with its tensors on ``device``."""
        return Message({name: tensor.to(device) for name, tensor in self.tensors.items()}, self.kind)


def points_message(points: np.ndarray | Tensor) -> Message:
    """What early fusion sends: points (N, 3 + C) in the sender's frame, in metres, as float32."""
    return Message({"points": torch.as_tensor(points, dtype=torch.float32)}, kind="points")


def boxes_message(boxes: np.ndarray | Tensor, scores: np.ndarray | Tensor) -> Message:
    """What late fusion sends: boxes, as (N, 7) centres or (N, 8, 3) corners, and scores (N,), as float32.

    Raises:
        ValueError: not as many boxes as scores.
    """
    box_tensor = torch.as_tensor(boxes, dtype=torch.float32)
    score_tensor = torch.as_tensor(scores, dtype=torch.float32)
    if len(box_tensor) != len(score_tensor):
        raise ValueError(f"{len(box_tensor)} boxes but {len(score_tensor)} scores")
    return Message({"boxes": box_tensor, "scores": score_tensor}, kind="boxes")
