"""How words of a code space travel: packed bits, or foreground cells under an entropy code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opencood.communication import Message
from opencood.communication.packing import bits_for, expand, pack, squeeze, unpack
from opencood.errors import ConfigError

FORMS = ("packed", "entropy")
SIZE = "{}/size"


@dataclass(frozen=True)
class Wire:
    """The tensors that carry words below ``words`` of maps (n, layers, H, W), per modality of the senders.

    Attributes:
        layers: words of one cell.
        words: words there are.
        form: ``packed``: ceil(log2 words) bits each. ``entropy``: as few bytes as the map needs, made on the host.
    """

    layers: int
    words: int
    form: str = "packed"

    def __post_init__(self) -> None:
        """Check the form."""
        if self.form not in FORMS:
            raise ConfigError(f"model.args.codebook.message: '{self.form}' is none of {', '.join(FORMS)}.")

    def words_of(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """The tensors in which a wrong bit makes another word; under an entropy code it makes nonsense."""
        return tuple(dict.fromkeys(modalities)) if self.form == "packed" else ()

    def write(self, modality: str, choices: Tensor) -> dict[str, Tensor]:
        """The tensors of the words (n, layers, H, W) of n agents of one modality."""
        size = torch.tensor(choices.shape[-2:], dtype=torch.int16)
        if self.form == "packed":
            data = pack(choices.flatten(1), bits_for(self.words))
        else:
            strings = [bytearray(squeeze(agent.flatten(1), self.words)) for agent in choices]
            data = pad_sequence([torch.frombuffer(text, dtype=torch.uint8) for text in strings], batch_first=True)
            data = data.to(choices.device)
        return {modality: data, SIZE.format(modality): size}

    def read(self, modality: str, messages: Sequence[Message]) -> Tensor:
        """The words (n, layers, H, W) that all messages hold of agents of one modality."""
        held = [message.tensors for message in messages if modality in message.tensors]
        return torch.cat([self._read(own[modality], own[SIZE.format(modality)]) for own in held])

    def _read(self, data: Tensor, size: Tensor) -> Tensor:
        height, width = size.tolist()
        cells = height * width
        if self.form == "packed":
            choices = unpack(data, self.layers * cells, bits_for(self.words)).clamp(max=self.words - 1)
        else:
            agents = [expand(bytes(agent.tolist()), self.layers, cells, self.words) for agent in data]
            choices = torch.stack(agents).to(data.device)
        return choices.view(-1, self.layers, height, width)
