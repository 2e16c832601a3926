"""The door every message goes through: it is encoded, metered, perhaps lost, and decoded on the other side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from opencood.communication.codec import decode, encode
from opencood.communication.message import Message
from opencood.communication.meter import Meter
from opencood.errors import ConfigError

PRECISIONS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Channel:
    """A radio between the agents of a scene.

    Agents are numbered within their scene, the ego is 0. A message that is sent is metered, whether or not it arrives.
    A message of an agent that takes no part is neither sent nor metered.

    Args:
        meter: counts the bytes; a new one by default.
        agents: only the first ``agents`` agents of each scene take part (1 = the ego alone); None = all.
        drop: probability that a message is lost, in [0, 1].
        precision: type of floating tensors on the wire (``float32``, ``float16``, ``bfloat16``).
        generator: source of the losses; needed for 0 < drop < 1.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self,
        meter: Meter | None = None,
        agents: int | None = None,
        drop: float = 0.0,
        precision: str = "float32",
        generator: np.random.Generator | None = None,
    ) -> None:
        if agents is not None and agents < 1:
            raise ConfigError(f"channel: agents is {agents}; at least the ego takes part, so give 1 or more.")
        if not 0.0 <= drop <= 1.0:
            raise ConfigError(f"channel: drop is {drop}; a probability lies between 0 and 1.")
        if 0.0 < drop < 1.0 and generator is None:
            raise ConfigError("channel: drop needs a generator, so that the losses can be repeated.")
        if precision not in PRECISIONS:
            raise ConfigError(f"channel: unknown precision '{precision}'. Valid: {', '.join(PRECISIONS)}.")
        self.meter = meter if meter is not None else Meter()
        self.agents = agents
        self.drop = drop
        self.precision = precision
        self._generator = generator

    def takes_part(self, agent: int) -> bool:
        """Whether an agent, numbered within its scene, may send at all."""
        return self.agents is None or agent < self.agents

    def transmit(self, message: Message, sender: int, receiver: int, scene: int = 0) -> Message | None:
        """Send a message and return what arrives, on the device it came from; None when nothing does."""
        if not self.takes_part(sender):
            return None
        data = encode(self._narrow(message))
        self.meter.record(len(data), sender, receiver, scene)
        if self._is_lost():
            return None
        return _restore(decode(data), like=message)

    def _narrow(self, message: Message) -> Message:
        dtype = PRECISIONS[self.precision]
        if dtype is None:
            return message
        narrowed = {n: t.to(dtype) if t.is_floating_point() else t for n, t in message.tensors.items()}
        return Message(narrowed, message.kind)

    def _is_lost(self) -> bool:
        if self._generator is None:
            return self.drop == 1.0
        return bool(self._generator.random() < self.drop)


def _restore(message: Message, like: Message) -> Message:
    """Give every tensor the device and dtype it had before it was narrowed for the wire."""

    def as_sent(name: str, tensor: Tensor) -> Tensor:
        return tensor.to(device=like.tensors[name].device, dtype=like.tensors[name].dtype)

    return Message({name: as_sent(name, tensor) for name, tensor in message.tensors.items()}, message.kind)
