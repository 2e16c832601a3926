"""What every link does, and the simplest one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.models.scene import SceneFeatures


class Link(nn.Module):
    """How agents talk: ``send`` runs at the sender, ``receive`` at the ego.

    A link may read *probes* of the detector: named functions from a map to a map, such as the confidence by
    ``cls_head``. The assembly says which, the builder hands them over once with :meth:`bind`.

    Attributes:
        leaks: what ``receive`` uses of other agents although nobody sent it, in words for reports; honest links have
            none.
    """

    leaks: tuple[str, ...] = ()

    def bind(self, probes: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        """Take the probes of the assembly. The plain links use none."""

    def request(self, ego: SceneFeatures) -> Message | None:
        """What the egos ask for before anybody sends (a target modality, a query map); None when nothing is asked."""
        return None

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """The message of the agents in ``own``: what each of them can make of its own features and the request."""
        raise NotImplementedError

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """``target`` filled with what its agents' messages say, and with the extra outputs of the link.

        Args:
            messages: in the order of ``target``'s agents, each of one or several agents, the egos' own among them.
            ego: the features of the egos alone (B agents).
            target: the layout of the scenes as they arrived, without maps.
        """
        raise NotImplementedError


class IdentityLink(Link):
    """Sends the map as it is."""

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """The map (n, C, H, W)."""
        return Message({"map": own.map})

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """The maps one after the other."""
        return target.with_maps(joined(messages, "map"))


def joined(messages: Sequence[Message], name: str) -> Tensor:
    """One tensor of all messages, concatenated over agents; a single message is not copied."""
    if len(messages) == 1:
        return messages[0].tensors[name]
    return torch.cat([message.tensors[name] for message in messages])


def by_modality(parts: Mapping[str, Callable[[Tensor], Tensor]], maps: Tensor, modality: Sequence[str]) -> Tensor:
    """Every agent's map (N, C, H, W) through the part of its modality; (N, C', H', W') in the same order."""
    rows = {m: [row for row, name in enumerate(modality) if name == m] for m in dict.fromkeys(modality)}
    changed = torch.cat([parts[m](maps[of_m]) for m, of_m in rows.items()])
    order = torch.tensor([row for of_m in rows.values() for row in of_m]).argsort()
    return changed[order.to(changed.device)]
