"""The value that travels between agents, and the three kinds of content every fusion method is made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
        words: names of integer tensors of which every bit pattern can be read, so that a wrong bit makes another word
            instead of a message that cannot be read. Like what follows it tells the channel about the content and has
            no bytes.
        entries: tensors of which entries may be left out to save bytes -> the axis along which they lie; all have
            equally many.
        importance: (entries,) of each, for the choice; None when all are alike.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    kind: str = "features"
    kept: Mapping[str, Any] = field(default_factory=dict)
    words: Collection[str] = ()
    entries: Mapping[str, int] = field(default_factory=dict)
    importance: Tensor | None = None

    @property
    def sent(self) -> dict[str, Tensor]:
        """The tensors that go over a channel."""
        return {name: tensor for name, tensor in self.tensors.items() if not name.startswith("_")}

    def to(self, device: torch.device | str) -> Message:
        """The same message with its tensors on ``device``."""
        return Message({name: tensor.to(device) for name, tensor in self.tensors.items()}, self.kind)


def points_message(points: np.ndarray | Tensor) -> Message:
    """What early fusion sends: points (N, 3 + C) in the sender's frame, in metres, as float32."""
    tensors = {"points": torch.as_tensor(points, dtype=torch.float32)}
    return Message(tensors, kind="points", entries={"points": 0})


def boxes_message(boxes: np.ndarray | Tensor, scores: np.ndarray | Tensor) -> Message:
    """What late fusion sends: boxes, as (N, 7) centres or (N, 8, 3) corners, and scores (N,), as float32.

    Raises:
        ValueError: not as many boxes as scores.
    """
    box_tensor = torch.as_tensor(boxes, dtype=torch.float32)
    score_tensor = torch.as_tensor(scores, dtype=torch.float32)
    if len(box_tensor) != len(score_tensor):
        raise ValueError(f"{len(box_tensor)} boxes but {len(score_tensor)} scores")
    tensors = {"boxes": box_tensor, "scores": score_tensor}
    return Message(tensors, kind="boxes", entries={"boxes": 0, "scores": 0}, importance=score_tensor)
