"""The folders of OPV2V and its relatives: ``<split>/<scenario>/<agent>/<stamp>.*`` (``spec/data.md`` section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from opencood.simulation.presets import SPLITS
from opencood.simulation.recording import AgentView, Frame, ego_first
from opencood.simulation.scenario import ScenarioPlan
from opencood.simulation.writers.base import Cast, Tally, WrittenScenario
from opencood.simulation.writers.clouds import pcd_bytes
from opencood.simulation.writers.metadata import yaml_bytes
from opencood.simulation.writers.pictures import depth_bytes, png_bytes
from opencood.simulation.writers.right_handed import mirrored
from opencood.simulation.writers.storage import whole_folder, write_json

_MODALITIES = ("m1", "m2", "m3", "m4")


@dataclass(frozen=True)
class TreeFormat:
    """Where the formats of the family differ.

    Attributes:
        describe: content of the metadata file of one agent of a frame.
        scenario: name of a scenario, made of its date.
        first_car: cars are numbered from here on; None = an agent has the id of its body.
        stamps_per_tick: stamps count simulation steps, so many in a tenth of a second.
        cloud_ending, cloud_bytes: the point cloud's file.
        cameras: pictures are part of the format.
        extras: so are depth, maps of the ground and clouds of fewer beams.
        right_handed: coordinates are right-handed instead of UE's.
    """

    describe: Callable[[AgentView, Frame], dict[str, Any]]
    scenario: Callable[[str], str] = str
    first_car: int | None = None
    stamps_per_tick: int = 1
    cloud_ending: str = ".pcd"
    cloud_bytes: Callable[[np.ndarray], bytes] = pcd_bytes
    cameras: bool = True
    extras: bool = False
    right_handed: bool = False


class TreeWriter:
    """Writes folders of scenarios and, where a format has them, modality assignments."""

    cast: ClassVar[Cast] = Cast()
    owns: ClassVar[tuple[str, ...]] = SPLITS
    splits: ClassVar[Mapping[str, str]] = {split: split for split in SPLITS}
    format: ClassVar[TreeFormat]
    assignments: ClassVar[str | None] = None  # first word of the names of its assignment files

    def __init_subclass__(cls) -> None:
        cls.owns = (*SPLITS, *(name for name in cls._assignment_files()))

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def write(self, plan: ScenarioPlan, frames: Iterable[Frame], protocol: Mapping[str, Any]) -> WrittenScenario:
        """Write one scenario; its folder appears only when it is complete.

        Raises:
            StorageError: the disk is full or not writable.
        """
        name, agents = self.format.scenario(plan.name), dict[str, None]()
        with whole_folder(self.root, Path(plan.split, name)) as folder:
            tally = Tally(folder)
            tally.save(Path("data_protocol.yaml"), yaml_bytes(dict(protocol)))
            for frame in frames:
                for agent, relative, content in self._files(frame):
                    agents[agent] = None
                    tally.save(relative, content)
        return WrittenScenario(plan.split, name, tuple(agents), tally.digest, tally.size)

    def finish(self, scenarios: Iterable[WrittenScenario], seed: int) -> None:
        """Write the modality assignments of all splits (``heter.assignment_path``): random, and in the order of agents.

        Raises:
            StorageError: the disk is full or not writable.
        """
        random, in_order = {}, {}
        for scenario in scenarios:
            # Cars first: published readers may take the first agent of the file as ego.
            agents = sorted(scenario.agents, key=lambda agent: (agent.startswith("-"), agent))
            rng = np.random.default_rng([seed, int("".join(filter(str.isdigit, scenario.name)))])
            cycle = [_MODALITIES[i % len(_MODALITIES)] for i in range(len(agents))]
            in_order[scenario.name] = dict(zip(agents, cycle, strict=True))
            random[scenario.name] = dict(zip(agents, rng.permutation(_MODALITIES * 2).tolist(), strict=False))
        for name, table in zip(self._assignment_files(), (random, in_order), strict=False):
            write_json(self.root / name, table)

    @classmethod
    def _assignment_files(cls) -> tuple[str, ...]:
        word = cls.assignments
        return (f"{word}_4modality.json", f"{word}_4modality_in_order.json") if word else ()

    def _files(self, frame: Frame) -> Iterator[tuple[str, Path, bytes]]:
        """Agent, path below the scenario and content of every file of a frame."""
        kind = self.format
        seen = mirrored(frame) if kind.right_handed else frame
        stamp = f"{frame.tick * kind.stamps_per_tick:06d}"
        for agent, view in self._named(seen.agents):
            stem = Path(agent, stamp)
            yield agent, stem.with_suffix(".yaml"), yaml_bytes(kind.describe(view, seen))
            yield agent, stem.with_suffix(kind.cloud_ending), kind.cloud_bytes(view.points)
            for ending, content in self._optional(view):
                yield agent, stem.with_name(stamp + ending), content

    def _optional(self, view: AgentView) -> Iterator[tuple[str, bytes]]:
        """Ending and content of the files that only some simulations have."""
        for number, camera in enumerate(view.cameras if self.format.cameras else ()):
            yield f"_camera{number}.png", png_bytes(camera.image)
            if self.format.extras:
                yield f"_depth{number}.png", depth_bytes(camera.depth)
        if self.format.extras:
            if view.visibility is not None:
                yield "_bev_visibility.png", png_bytes(view.visibility)
            for name, drawn in view.ground.items():
                yield f"_bev_{name}.png", png_bytes(drawn)
            for beams, points in view.fewer_beams.items():
                yield f"_{beams}{self.format.cloud_ending}", self.format.cloud_bytes(points)

    def _named(self, agents: Iterable[AgentView]) -> Iterator[tuple[str, AgentView]]:
        first = self.format.first_car
        for number, view in enumerate(ego_first(agents)):
            renamed = first is not None and view.agent_id >= 0
            yield str(number + first if renamed and first is not None else view.agent_id), view
