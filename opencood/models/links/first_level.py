"""Sending the first level of a backbone whose every level is fused: the further levels follow from it at the ego."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from opencood.communication import Message
from opencood.models.links.base import Link, joined
from opencood.models.links.compressor import Codec
from opencood.models.scene import SceneFeatures

Probes = Mapping[str, Callable[[Tensor], Tensor]]


class FirstLevelLink(Link):
    """Sends level 0 of the backbone, through a codec where there is one.

    Probes: ``first`` makes level 0 of the map; ``narrow`` and ``widen``, where the assembly has them, are the codec.
    """

    def __init__(self, codec: Codec | None = None) -> None:
        super().__init__()
        self._codec: Probes = {} if codec is None else {"narrow": codec.encoder, "widen": codec.decoder}
        self._probes: Probes = {}

    def bind(self, probes: Probes) -> None:
        """Take the probes."""
        self._probes = {**probes, **self._codec}

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """The code of level 0 (n, ...)."""
        level = self._probes["first"](own.map)
        return Message({"map": self._probes["narrow"](level) if "narrow" in self._probes else level})

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """Level 0 (N, C, H, W)."""
        code = joined(messages, "map")
        return target.with_maps(self._probes["widen"](code) if "widen" in self._probes else code)


def first_level(links: Mapping[str, Codec]) -> FirstLevelLink:
    """The link of an assembly whose fuse stage goes on from level 0."""
    return FirstLevelLink(next(iter(links.values()), None))
