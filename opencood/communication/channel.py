"""The door every message goes through: encoded, metered, perhaps lost or damaged, and decoded on the other side."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from opencood.communication.codec import decode, encode
from opencood.communication.damage import flip_bits
from opencood.communication.message import Message
from opencood.communication.meter import Meter
from opencood.communication.precision import narrow, widen
from opencood.communication.settings import ChannelSettings
from opencood.communication.thinning import fit, spread
from opencood.errors import ConfigError


class Channel:
    """A radio between the agents of a scene.

    Agents are numbered within their scene, the ego is 0. A message that is sent is metered, whether or not it arrives.
    A message of an agent that takes no part is neither sent nor metered, nor is one that the budget leaves no room for.

    What is lost or damaged depends on the seed, the frame, the scene and the pair of agents alone, so that every method
    meets the same losses.

    Args:
        meter: counts the bytes; a new one by default.
        agents: only the first ``agents`` agents of each scene take part (1 = the ego alone); None = all.
        settings: what it does to messages; nothing by default. Its fields may be given by themselves.
        seed: of what is lost and damaged.

    Raises:
        ConfigError: a value outside its range.
    """

    def __init__(
        self,
        meter: Meter | None = None,
        agents: int | None = None,
        settings: ChannelSettings | None = None,
        seed: int = 0,
        **levels: float | str | None,
    ) -> None:
        if agents is not None and agents < 1:
            raise ConfigError(f"channel: agents is {agents}; at least the ego takes part, so give 1 or more.")
        self.meter = meter if meter is not None else Meter()
        self.agents = agents
        self.settings = settings if settings is not None else ChannelSettings.of(levels)
        self._seed = seed
        self._frame: int | None = None

    def start_frame(self, frame: int | None = None) -> None:
        """Begin a frame; its number decides what is lost, the count of frames so far where none is given."""
        self.meter.start_frame()
        self._frame = frame

    def takes_part(self, agent: int) -> bool:
        """Whether an agent, numbered within its scene, may send at all."""
        return self.agents is None or agent < self.agents

    def transmit(self, message: Message, sender: int, receiver: int, scene: int = 0) -> Message | None:
        """Send a message and return what arrives, on the device it came from; None when nothing does."""
        if not self.takes_part(sender):
            return None
        limit = self.settings.bytes_per_message
        chosen = message if limit is None else fit(message, limit, lambda m: len(self._encode(m)))
        if chosen is None:
            self.meter.withheld += 1
            return None
        draws = self._draws(sender, receiver, scene)
        data = self._encode(chosen)
        self.meter.record(len(data), sender, receiver, scene)
        arrived = None if draws.random() < self.settings.drop else self._read(data, chosen, draws)
        self.meter.lost += arrived is None
        return arrived

    def _encode(self, message: Message) -> bytes:
        """The bytes on the wire; ranges travel along where wrong bits could make a value impossible."""
        tensors = narrow(message.sent, self.settings.precision, with_range=self.settings.bit_error > 0)
        return encode(Message(tensors, message.kind))

    def _read(self, data: bytes, sent: Message, draws: np.random.Generator) -> Message | None:
        """What the receiver makes of the bytes."""
        arrived = decode(data)
        tensors: dict[str, Tensor] | None = dict(arrived.tensors)
        if self.settings.bit_error:
            values = {name for name, tensor in sent.sent.items() if tensor.is_floating_point()}
            exposed = sorted(values | (set(sent.words) & set(sent.sent)))
            tensors = flip_bits(arrived.tensors, exposed, self.settings.bit_error, draws, len(data))
        if tensors is None:
            return None
        return Message(spread(widen(tensors, sent.sent, self.settings.precision)), arrived.kind)

    def _draws(self, sender: int, receiver: int, scene: int) -> np.random.Generator:
        frame = self.meter.frames if self._frame is None else self._frame
        earlier = self.meter.sent_over(sender, receiver, scene)
        return np.random.default_rng((self._seed, frame, scene, sender, receiver, earlier))
