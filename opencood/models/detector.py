"""The four stages of every detector, once: encode, link, fuse, detect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from opencood.communication import Channel, Message
from opencood.errors import DataError
from opencood.models.assembly import Assembly, Backend, run_heads
from opencood.models.checkpoints import LoadReport
from opencood.models.freezing import Freeze
from opencood.models.links.base import Link
from opencood.models.scene import BACKEND, SceneFeatures, at_one_size, in_agent_order
from opencood.models.transfers import Transfer

SHARED = "shared"
# Extra outputs that stages hand to later stages but nobody publishes start with this.
PRIVATE = "_"


class Detector(nn.Module):
    """A detector put together by :func:`opencood.models.builder.build_detector` from an assembly row.

    Attributes:
        channel: when set, and in eval mode, every message goes through it as bytes: metered, perhaps lost. None by
            default, and without effect in train mode, where no codec work is done.
        has_weights: whether checkpoints of earlier stages were loaded while it was built.
        unread: parts that should have been loaded then, by the file that is missing.
        drops: modalities whose agents are left out, besides those that are not built; None: such an agent is an error.
    """

    def __init__(
        self,
        assembly: Assembly,
        chains: Mapping[str, Sequence[nn.Module]],
        link: Link,
        backends: Mapping[str, Backend],
        own_heads: Mapping[str, nn.Module],
        extent: tuple[float, float] | None,
        refine: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.channel: Channel | None = None
        self.assembly = assembly
        self.extent = extent
        self.freeze = Freeze()
        self.drops: frozenset[str] | None = None
        self.has_weights = False
        self.unread: dict[str, str] = {}
        # Parts whose children are registered but who are not themselves; the mode must reach them all the same.
        self.nameless: tuple[nn.Module, ...] = ()
        # The parts are registered under their published names by the builder; these mappings only say who does what.
        self._chains = {m: tuple(chain) for m, chain in chains.items()}
        self._link = (link,)
        self._backends = dict(backends)
        self._own_heads = dict(own_heads)
        self._refine = (refine,)

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities in the order of the YAML; ``shared`` in a homogeneous detector."""
        return list(self._chains)

    @property
    def link(self) -> Link:
        """How the agents of this detector talk."""
        return self._link[0]

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """From the batch dict (spec data.md 7) to the published outputs (spec models.md 4.1).

        Raises:
            DataError: the batch lacks what the detector reads, or holds a modality it does not know.
        """
        return self.finish(self.encode(batch))

    def single_forward(self, batch: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What each agent of one scene detects by itself in the ego's view, from its own map and without messages.

        Args:
            batch: the batch dict of one scene, with ``cav_id_list``.

        Returns:
            the outputs of the heads by agent, ``ego`` and then the ids of the others.
        """
        scene = self.encode(batch)
        alone = SceneFeatures(
            (scene.to_ego(scene.map),), (1,) * scene.agents, extent=self.extent, modality=scene.modality, frame="ego"
        )
        backend = self.backend_of(scene)
        outputs = backend.detect(backend.fuse(alone))
        names = ["ego", *map(str, list(batch["cav_id_list"])[1:])]
        heads = [key for key in backend.heads if key in outputs]
        return {name: {key: outputs[key][row : row + 1] for key in heads} for row, name in enumerate(names)}

    def finish(self, scene: SceneFeatures) -> dict[str, Any]:
        """From what every agent sees by itself to the published outputs; nothing here waits for the device."""
        if self.assembly.collaborates:
            scene = self.exchange(scene)
        backend = self.backend_of(scene)
        fused = backend.fuse(scene)
        outputs = {**fused.aux, **backend.detect(fused)}
        (refine,) = self._refine
        if refine is not None:
            outputs = refine(outputs, fused)
        return {key: value for key, value in outputs.items() if not key.startswith(PRIVATE)}

    # --- encode ----------------------------------------------------------------------------------

    def encode(self, batch: Mapping[str, Any]) -> SceneFeatures:
        """What every agent sees by itself: maps (N, C, H, W) in agent order, each in its agent's own frame."""
        present = {m: batch[key] for m in self._chains if (key := self.assembly.batch_key.format(m=m)) in batch}
        if self.drops is not None:
            present = {m: inputs for m, inputs in present.items() if m not in self.drops}
        if not present:
            expected = ", ".join(self.assembly.batch_key.format(m=m) for m in self._chains)
            raise DataError(f"the batch holds none of {expected}; its keys are {', '.join(map(str, batch))}.")
        listed = self._names(batch, present)
        keep = [name in present or self.drops is None for name in listed]
        names = tuple(name for name, kept in zip(listed, keep, strict=True) if kept)
        seen: dict[str, tuple[Tensor, ...]] = {}
        aux: dict[str, Any] = {}
        for m, inputs in present.items():
            seen[m], extra = self._see(m, inputs, _agents(batch, names, m, self.assembly.collaborates))
            aux.update({f"{stem}_{m}" if m != SHARED else stem: value for stem, value in extra.items()})
        depth = min(len(levels) for levels in seen.values())
        levels = [{m: of_modality[k] for m, of_modality in seen.items()} for k in range(depth)]
        sizes = {m: (level.shape[-2], level.shape[-1]) for m, level in levels[0].items()}
        if self.assembly.mixed_sizes and len(set(sizes.values())) > 1:
            levels = [at_one_size(level) for level in levels]
        else:
            sizes = {}
        first, *more = [in_agent_order(level, names) for level in levels]
        names = names or tuple(m for m in present if m != SHARED) * len(first)
        scene = replace(self._scene(batch, first, names, aux, keep), sizes=sizes)
        return scene.with_maps(first, *more, **run_heads(self._own_heads, scene))

    def _names(self, batch: Mapping[str, Any], present: Mapping[str, Any]) -> tuple[str, ...]:
        if SHARED in self._chains:
            return ()
        names = tuple(batch.get("agent_modality_list", ()))
        lost = sorted(set(names) - set(present))
        if lost and self.drops is None:
            raise DataError(
                f"the batch lists agents of {', '.join(lost)}, but holds input for {', '.join(present)} only."
            )
        if not names and len(present) > 1:
            raise DataError(
                f"the batch holds input for {', '.join(present)} but no agent_modality_list to order it by."
            )
        return names

    def _see(
        self, modality: str, inputs: Mapping[str, Tensor], agents: int | None
    ) -> tuple[tuple[Tensor, ...], Mapping[str, Any]]:
        """Maps of one modality's agents and extra outputs.

        What reads a sensor of several adds its map to what is there already; the last part may give several maps.
        """
        level: Tensor | None = None
        aux: dict[str, Any] = {}
        for part in self._chains[modality]:
            reads = getattr(part, "reads", None)
            if level is not None and reads is None:
                level = part(level)
                continue
            seen, extra = part(inputs if reads is None else inputs[reads], agents)
            level = seen if level is None else level + seen
            aux |= extra
        assert level is not None  # every chain begins with an encoder
        return level if isinstance(level, tuple) else (level,), aux

    def _scene(
        self, batch: Mapping[str, Any], level: Tensor, names: tuple[str, ...], aux: Mapping[str, Any], keep: list[bool]
    ) -> SceneFeatures:
        if not self.assembly.collaborates:
            return SceneFeatures((level,), (1,) * len(level), extent=self.extent, modality=names, aux=aux)
        known = {name: batch[name] for name in self.assembly.reads if name in batch}
        if missing := sorted(self.assembly.reads - set(known)):
            raise DataError(f"{self.assembly.name} needs {', '.join(missing)} in the batch; it has {', '.join(batch)}.")
        record_len = tuple(int(n) for n in batch["record_len"])
        everybody = SceneFeatures(
            (), record_len, known.get("pairwise_t_matrix"), self.extent, frame=self.assembly.frame
        )
        everybody = replace(_with_motion(everybody, batch, known), pose=known.get("lidar_pose"))
        return replace(everybody.select(keep), maps=(level,), modality=names, aux=aux)

    # --- link ------------------------------------------------------------------------------------

    def exchange(self, scene: SceneFeatures) -> SceneFeatures:
        """Every agent sends to its ego; the scene as it arrives there."""
        egos = scene.of_egos()
        if self.channel is None or self.training:
            messages: list[Message] = [self.link.send(scene, self.link.request(egos))]
            target = scene
        else:
            arrived = self._transmit(scene, self.channel)
            messages = [message for message in arrived if message is not None]
            target = scene.select([message is not None for message in arrived])
        received = self.link.receive(messages, egos, target.layout())
        return received.with_maps(*received.maps, **scene.aux)

    def _transmit(self, scene: SceneFeatures, channel: Channel) -> list[Message | None]:
        """What arrives of each agent's message; an ego hears itself without a channel."""
        of_scene, slot = (places.tolist() for places in scene.places)
        arrived: list[Message | None] = []
        request: Message | None = None
        for row in range(scene.agents):
            agent, number = scene.alone(row), of_scene[row]
            if slot[row] == 0:
                request = self.link.request(agent)
                arrived.append(self.link.send(agent, request))
            else:
                arrived.append(self._hear(channel, agent, request, slot[row], number))
        return arrived

    def _hear(
        self, channel: Channel, agent: SceneFeatures, request: Message | None, slot: int, scene: int
    ) -> Message | None:
        """What arrives of one agent, which answers nothing when it takes no part or the request did not reach it."""
        if not channel.takes_part(slot):
            return None
        if request is not None and (request := channel.transmit(request, 0, slot, scene)) is None:
            return None
        return channel.transmit(self.link.send(agent, request), slot, 0, scene)

    # --- detect ----------------------------------------------------------------------------------

    def backend_of(self, scene: SceneFeatures) -> Backend:
        """The shared backend, that which the link was asked for, or that of the modality of the egos."""
        if SHARED in self._backends:
            return self._backends[SHARED]
        if BACKEND in scene.aux:
            return self._backends[scene.aux[BACKEND]]
        names = sorted({scene.modality[row] for row in scene.egos})
        if len(names) != 1:
            raise DataError(
                f"{self.assembly.name} has its own heads for every modality, so all egos of a batch are of one, not "
                f"{', '.join(names)}."
            )
        return self._backends[names[0]]

    # --- weights of earlier stages -----------------------------------------------------------------

    def note_transfers(self, reports: Mapping[Transfer, LoadReport]) -> None:
        """Remember what was loaded while it was built, and what was not."""
        self.has_weights = any(report.loaded for report in reports.values())
        self.unread = {one.ours: one.path for one, report in reports.items() if not report.loaded}

    # --- freezing --------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Detector:
        """Set the mode; what is frozen stays frozen."""
        super().train(mode)
        for part in (self.link, *self.nameless):
            part.train(mode)
        self.freeze.enforce(self, mode)
        return self


def _agents(batch: Mapping[str, Any], names: Sequence[str], modality: str, collaborates: bool) -> int | None:
    """How many agents of a modality the batch holds, also those without a single point; None when it does not say."""
    if names:
        return list(names).count(modality)
    if collaborates or "pairwise_t_matrix" in batch:
        return int(sum(batch["record_len"]))
    boxes = batch.get("object_bbx_center")
    return None if boxes is None else len(boxes)


def _with_motion(scene: SceneFeatures, batch: Mapping[str, Any], known: Mapping[str, Any]) -> SceneFeatures:
    """With speed, delay, kind and correction of every agent, from the padded (B, L, ...) entries of the batch."""
    if "prior_encoding" not in known:
        return scene
    places = tuple(place.to(known["prior_encoding"].device) for place in scene.places)
    speed, delay, kind = known["prior_encoding"][places].unbind(-1)
    correction = batch.get("spatial_correction_matrix")
    moved = None if correction is None else correction[places]
    return replace(scene, speed=speed, delay=delay, kind=kind, correction=moved)
