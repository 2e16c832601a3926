"""STAMP: features travel in one protocol format, which every type reads and writes (spec gencomm.md 1.7, 1.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.errors import DataError
from opencood.models.links.base import Link, by_modality
from opencood.models.links.degradation import Degradation
from opencood.models.scene import SceneFeatures

NATIVE, PROTOCOL = "map", "protocol"


class StampLink(Link):
    """Agents of other types than the ego's send protocol features, those of its own type the map as it is.

    Args:
        ego_type: the type of every ego, which the configuration fixes.
        adapters: type to protocol, by type; reverter: protocol to the ego's type.
    """

    def __init__(
        self,
        ego_type: str,
        adapters: Mapping[str, nn.Module],
        reverter: nn.Module,
        degradation: Degradation | None = None,
    ) -> None:
        super().__init__()
        self._ego_type, self._adapters, self._reverter = ego_type, dict(adapters), (reverter,)
        self._degradation = (degradation,)

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """``map`` (agents of the ego's type, ...) and ``protocol`` (the others, ...), each in the agents' order."""
        native, others = _split(own.modality, self._ego_type)
        tensors: dict[str, Tensor] = {}
        if native:
            tensors[NATIVE] = own.map[native]
        if others:
            names = [own.modality[row] for row in others]
            tensors[PROTOCOL] = by_modality(self._adapters, own.map[others], names)
        return Message(tensors)

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """Maps (N, C, H, W) in the ego's format; its own as they are.

        Raises:
            DataError: an ego is of another type.
        """
        wrong = sorted(set(ego.modality) - {self._ego_type})
        if wrong:
            raise DataError(
                f"this model decides for egos of type {self._ego_type} (model.args.ego_modality), but an ego is "
                f"{wrong[0]}."
            )
        native, others = _split(target.modality, self._ego_type)
        slots = target.places[1]
        parts = [self._damaged(_all(messages, NATIVE), slots[native])] if native else []
        if others:
            (reverter,) = self._reverter
            parts.append(reverter(self._damaged(_all(messages, PROTOCOL), slots[others])))
        order = torch.tensor(native + others).argsort()
        return target.with_maps(torch.cat(parts)[order.to(parts[0].device)])

    def _damaged(self, values: Tensor, slots: Tensor) -> Tensor:
        (degradation,) = self._degradation
        return values if degradation is None else degradation(values, slots)


def _split(modality: Sequence[str], ego_type: str) -> tuple[list[int], list[int]]:
    """Rows of the ego's type, and of the others."""
    native = [row for row, name in enumerate(modality) if name == ego_type]
    return native, [row for row, name in enumerate(modality) if name != ego_type]


def _all(messages: Sequence[Message], name: str) -> Tensor:
    found = [message.tensors[name] for message in messages if name in message.tensors]
    return found[0] if len(found) == 1 else torch.cat(found)
