"""Feature to code to feature: the sender translates into words of the receiver's code space (spec codealign.md 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.communication import Message
from opencood.errors import ConfigError, DataError
from opencood.models.links.code_link import CodeLink
from opencood.models.links.quantizer import Codebook
from opencood.models.links.sampling import Uniforms, straight_through
from opencood.models.scene import BACKEND, SceneFeatures


@dataclass(frozen=True)
class Spaces:
    """The parts a translated link is made of, by modality.

    Attributes:
        targets: code spaces of the backends.
        translators: of the senders; under an empty name that of all of them.
        sources: code spaces of the senders, where the translator reads what they make of a map.
        crops: what fits a modality's map to the scene's after it is read.
    """

    targets: Mapping[str, Codebook]
    translators: Mapping[str, nn.Module]
    sources: Mapping[str, Codebook] = field(default_factory=dict)
    crops: Mapping[str, nn.Module] = field(default_factory=dict)


class TranslatedLink(CodeLink):
    """The ego asks for words of its code space; agents of other modalities translate their maps into them.

    In train mode the target is drawn from the backends; in eval mode it is :attr:`target`, or the ego's own.

    Args:
        reads: what the translator is given: the map (``feature``), what the sender's code space makes of it
            (``coded_feature``), or the words themselves, one-hot (``codemap``). With ``dense`` it gives a map instead
            of words, and nothing of that agent is coded.
        one_space: agents of every modality with a backend send words of the ego's space without translation.
        any_ego: an ego without a backend uses the first one in eval mode, as in validation of stage 2.
        sample_in_eval: draw translated words in eval mode too.
        form: how the words travel.

    Attributes:
        target: the backend to use in eval mode instead of the ego's.
        weights: how often each backend is drawn in train mode, relative to the others.
        uniforms: where the draws of translated words come from.
    """

    def __init__(
        self,
        reads: str = "feature",
        one_space: bool = False,
        any_ego: bool = True,
        sample_in_eval: bool = False,
        form: str = "packed",
    ) -> None:
        super().__init__(form)
        self.reads, self.one_space, self.any_ego, self.sample_in_eval = reads, one_space, any_ego, sample_in_eval
        self.target: str | None = None
        self.uniforms: Uniforms = torch.rand_like
        self.weights: dict[str, float] = {}
        self._spaces = Spaces({}, {})

    def join_spaces(self, spaces: Spaces) -> None:
        """Take the code spaces and translators."""
        self._spaces = spaces
        self.weights = dict.fromkeys(spaces.targets, 1.0)
        self.join(spaces.crops)
        for translator in spaces.translators.values():
            channels = next(translator.children()).out_channels
            fitting = {self._channels(space) for space in spaces.targets.values()}
            if spaces.targets and channels not in fitting:
                raise ConfigError(
                    f"model.args.translator.args.out_channels: {channels}, but the targets take "
                    f"{', '.join(map(str, sorted(fitting)))} (channels of a map, or dict_size * seg_num * r logits)."
                )

    def _channels(self, space: Codebook) -> int:
        """Channels a translator into a code space gives."""
        return space.channel if self.reads == "dense" else space.layers * space.dict_size

    @property
    def backends(self) -> list[str]:
        """The modalities that can be targets, in the order of the YAML."""
        return list(self._spaces.targets)

    # --- the words that are asked for ------------------------------------------------------------

    def request(self, ego: SceneFeatures) -> Message:
        """No tensor: the kind of the message names the target.

        Raises:
            DataError: the egos of a batch are of several modalities.
            ConfigError: there is no backend for the ego.
        """
        if self.training:
            shares = torch.tensor([float(self.weights[name]) for name in self.backends])
            return Message(kind=self.backends[int(torch.multinomial(shares, 1))])
        if self.target is not None:
            return Message(kind=self.target)
        names = sorted(set(ego.modality))
        if len(names) > 1:
            raise DataError(f"all egos of a batch are of one modality, not {', '.join(names)}: each has its backend.")
        if names[0] in self._spaces.targets:
            return Message(kind=names[0])
        if self.any_ego and self.backends:
            return Message(kind=self.backends[0])
        raise ConfigError(
            f"model.args.backend_modality: the ego is {names[0]}, but there are backends of "
            f"{', '.join(self.backends) or 'nobody'}."
        )

    # --- there and back --------------------------------------------------------------------------

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """Words of the target's code space by modality of the senders, translated where it is not their own."""
        target = (request or self.request(own)).kind
        space = self._spaces.targets[target]
        tensors: dict[str, Tensor] = {}
        for m in dict.fromkeys(own.modality):
            level = own.of_modality(m)
            if self._knows(m, target):
                tensors |= self.write(space, m, space.encode_map(level))
            elif self.reads == "dense":
                tensors[m] = self._translate(m, level, target)
            else:
                tensors |= self.write(space, m, self._words(m, level, target, space))
        return Message(tensors, target, words=self.wire(space).words_of(own.modality))

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """The decoded maps; in train mode ``backend_modality``, the target that was drawn."""
        kinds = sorted({message.kind for message in messages})
        if len(kinds) > 1:
            raise DataError(f"the messages of a batch are in words of one backend, not of {', '.join(kinds)}.")
        space = self._spaces.targets[kinds[0]]
        maps = {}
        for m in dict.fromkeys(target.modality):
            dense = self.reads == "dense" and not self._knows(m, kinds[0])
            maps[m] = self.read_map(m, messages) if dense else self.read(space, m, messages)
        aux = {"backend_modality": kinds[0]} if self.training else {}
        return self.arrived(maps, target, **{BACKEND: kinds[0]}, **aux)

    def _knows(self, modality: str, target: str) -> bool:
        """Whether agents of a modality speak the target's words without translation."""
        return modality == target or (self.one_space and modality in self._spaces.targets)

    def _words(self, modality: str, level: Tensor, target: str, space: Codebook) -> Tensor:
        """Translated samples (n, layers, words, H, W) of maps (n, C, H, W)."""
        logits = self._translate(modality, level, target).unflatten(1, (space.layers, space.dict_size))
        return straight_through(logits, 2, self.uniforms if self.training or self.sample_in_eval else None)

    def _translate(self, modality: str, level: Tensor, target: str) -> Tensor:
        translators = self._spaces.translators
        if modality not in translators and "" not in translators:
            raise ConfigError(f"model.args.load_translator: there is no translator for agents of {modality}; list it.")
        translator = translators[modality] if modality in translators else translators[""]
        translated = translator(self._source(modality, level), target)
        if translated.shape[1] != self._channels(self._spaces.targets[target]):
            raise ConfigError(
                f"model.args: the translator of {modality} gives {translated.shape[1]} channels, but the code space of "
                f"{target} takes {self._channels(self._spaces.targets[target])}: it was made for another target."
            )
        return translated

    def _source(self, modality: str, level: Tensor) -> Tensor:
        """What the translator reads of a map."""
        sources = self._spaces.sources
        if self.reads not in ("coded_feature", "codemap") or not sources:
            return level
        space = sources[modality] if modality in sources else sources[""]
        if self.reads == "coded_feature":
            return space.decode_map(space.encode_map(level))
        words = F.one_hot(space.nearest_map(level), space.dict_size).to(level)
        return words.permute(0, 1, 4, 2, 3).flatten(1, 2)
