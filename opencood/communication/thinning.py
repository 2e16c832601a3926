"""A message that must not be longer than so many bytes: what matters least is left out.

Of maps (1, C, H, W) the cells with the largest values stay; of tables whose sender says along which axis their entries
lie (``Message.entries``), the entries that it finds most important. A message of other content is sent as a whole or
not at all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from opencood.communication.message import Message

# Beside the values of chosen cells (K, C) travel a bit per cell and the shape of the map.
CELLS, SHAPE = "{}#", "{}#shape"
STEPS = 1024


def fit(message: Message, limit: int, size_of: Callable[[Message], int]) -> Message | None:
    """The message with as much of it as fits into ``limit`` bytes; None when nothing useful does."""
    if size_of(message) <= limit:
        return message
    maps = {
        name: tensor
        for name, tensor in message.sent.items()
        if tensor.dim() == 4 and tensor.is_floating_point() and name not in message.entries
    }
    if not maps and not message.entries:
        return None
    order = {name: tensor.abs().amax(dim=1).flatten().argsort(descending=True) for name, tensor in maps.items()}
    ranking = _ranking(message)

    def thinned(share: int) -> Message:
        return _thinned(message, order, ranking, share / STEPS)

    # sizes grow with the share, so the largest that fits is found by halving
    share = bisect_right(range(1, STEPS), limit, key=lambda step: size_of(thinned(step)))
    return thinned(share) if share else None


def spread(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with thinned maps as maps again, zero where nothing was sent."""
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if "#" in name:
            continue
        if (shape := tensors.get(SHAPE.format(name))) is None:
            whole[name] = tensor
            continue
        _, channels, height, width = shape.tolist()
        bits = np.unpackbits(tensors[CELLS.format(name)].cpu().numpy(), count=height * width)
        chosen = torch.from_numpy(np.flatnonzero(bits)).to(tensor.device)
        cells = tensor.new_zeros(height * width, channels).index_copy(0, chosen, tensor)
        whole[name] = cells.view(1, height, width, channels).permute(0, 3, 1, 2)
    return whole


def _ranking(message: Message) -> Tensor | None:
    """Numbers of the entries, the most important first; evenly mixed where the sender does not say."""
    if not message.entries:
        return None
    if message.importance is not None:
        return message.importance.argsort(descending=True, stable=True)
    name, axis = next(iter(message.entries.items()))
    count = message.tensors[name].shape[axis]
    golden = torch.arange(count, dtype=torch.float64) * 0.6180339887498949
    return (golden % 1.0).argsort()


def _thinned(message: Message, order: Mapping[str, Tensor], ranking: Tensor | None, share: float) -> Message:
    tensors: dict[str, Tensor] = {}
    for name, tensor in message.tensors.items():
        if name in order:
            chosen = torch.zeros(len(order[name]), dtype=torch.bool, device=tensor.device)
            chosen[order[name][: int(share * len(order[name]))]] = True
            tensors[name] = tensor[0].flatten(1).T[chosen]
            tensors[CELLS.format(name)] = torch.from_numpy(np.packbits(chosen.cpu().numpy()))
            tensors[SHAPE.format(name)] = torch.tensor(tensor.shape, dtype=torch.int32)
        elif name in message.entries and ranking is not None:
            kept = ranking[: int(share * len(ranking))].sort().values
            tensors[name] = tensor.index_select(message.entries[name], kept.to(tensor.device))
        else:
            tensors[name] = tensor
    return replace(message, tensors=tensors)
