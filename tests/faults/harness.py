"""Damage one file after the other, read everything, and judge: reported, read and sane, or a fault of ours."""

from __future__ import annotations

import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from opencood.data.draws import Draws
from opencood.data.frame import Agent
from opencood.data.pictures import first_existing, read_picture
from opencood.data.readers.base import ReaderSettings
from opencood.data.readers.opv2v_files import channel_file
from opencood.errors import OpencoodError
from opencood.registry import REGISTRY
from tests.faults.mutations import Damaged, damage
from tests.faults.trees import Tree

_PATIENCE = 20  # seconds in which a few small files must be read, or refused
_WORLD, _SENSOR = 1e9, 1e6  # metres; nothing that was read may be beyond


class Hang(BaseException):
    """Reading took longer than anybody would wait."""


@dataclass
class Outcome:
    """What became of all damaged files.

    Attributes:
        reported: refused with an error of ours, by mutation.
        unnoticed: read all the same, with sane values, by mutation.
        faults: crashes, hangs, insane values, and certain damage that nobody noticed; each in words.
    """

    reported: Counter[str] = field(default_factory=Counter)
    unnoticed: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Damaged files."""
        return self.reported.total() + self.unnoticed.total() + len(self.faults)

    def __str__(self) -> str:
        head = f"{self.total} damaged files: {self.reported.total()} reported, {self.unnoticed.total()} read with sane"
        return "\n".join([f"{head} values, {len(self.faults)} faults", *self.faults])


def attack(tree: Tree, count: int, seed: int, watch: Callable[[str], None] = lambda label: None) -> Outcome:
    """Damage ``count`` files of a tree, one at a time; the tree is whole again afterwards.

    Mutation k depends on the seed and k alone. ``watch`` is told what is about to be read.
    """
    read_all(tree)  # an undamaged tree is read without complaint
    outcome, files = Outcome(), tree.files()
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        path = files[rng.integers(len(files))]
        original = path.read_bytes()
        damaged = damage(path, original, files, rng)
        label = f"{tree.format} seed {seed} number {k}: {damaged.mutation} of {path.relative_to(tree.folder)}"
        watch(label)
        try:
            _put(path, damaged.content)
            _judge(tree, path, damaged, label, outcome)
        finally:
            _put(path, original)
    return outcome


def _judge(tree: Tree, path: Path, damaged: Damaged, label: str, outcome: Outcome) -> None:
    mutation, certain = damaged.mutation, damaged.certain
    try:
        with patience(_PATIENCE):
            read_all(tree)
    except OpencoodError as error:
        # Relative paths in a pickle stay relative in messages; a stamp that an agent lacks is named without its path.
        named = str(tree.folder) in str(error) or path.name in str(error) or path.stem in str(error)
        if named:
            outcome.reported[mutation] += 1
        else:
            outcome.faults.append(f"{label}: the message names no file: {error}")
    except (Exception, Hang) as error:  # noqa: BLE001  (whatever it is, it is what we look for)
        outcome.faults.append(f"{label}: {type(error).__name__}: {error}"[:400])
    else:
        if certain:
            outcome.faults.append(f"{label}: nobody noticed")
        else:
            outcome.unnoticed[mutation] += 1


def read_all(tree: Tree) -> None:
    """Read all a training run could read of a tree.

    Raises:
        OpencoodError: something is damaged.
        AssertionError: what was read is insane.
    """
    for settings in _settings(tree):
        reader = REGISTRY.get("reader", tree.format).target(settings)
        reader.replan(Draws.keyed(0))
        for index in range(len(reader)):
            frame = reader.frame(index)
            assert frame.agents, "a frame without agents"
            for agent in frame.agents:
                _read(agent, tree.format == "opv2v")


def _settings(tree: Tree) -> Iterator[ReaderSettings]:
    base = ReaderSettings(tree.root, "root_dir", False, 5, hypes=tree.hypes)
    yield base
    if tree.format == "dairv2x":
        yield replace(base, own_labels=True)
        yield replace(base, cameras=True, camera_labels=True)
        yield replace(base, own_labels=True, camera_labels=True)


def _read(agent: Agent, has_other_sweeps: bool) -> None:
    _sane(agent.lidar_pose, _WORLD, (6,))
    for objects in (agent.objects, agent.camera_objects):
        if objects is not None:
            _sane(objects.corners, _WORLD, (len(objects.ids), 8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd pictures before it refuses them
        _cloud(agent.lidar.read())
        if has_other_sweeps:
            _cloud(agent.lidar.decode(channel_file(agent.lidar.path, 32)))
        for camera in agent.cameras:
            _sane(camera.to_lidar, _WORLD, (4, 4))
            _sane(camera.intrinsic, _SENSOR, (3, 3))
            read_picture(camera.image, "RGB")
            if camera.depth is not None:
                read_picture(camera.depth, "L")
        if agent.visibility is not None and agent.cameras:
            read_picture(first_existing(agent.visibility.places), "L")


def _cloud(points: Any) -> None:
    assert len(points), "a cloud without points"
    _sane(points, _SENSOR, (len(points), 4))


def _sane(values: Any, limit: float, shape: tuple[int, ...]) -> None:
    values = np.asarray(values)
    assert values.shape == shape, f"shape {values.shape} instead of {shape}"
    assert (np.abs(values) <= limit).all(), f"values up to {np.abs(values).max()}"


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Raise ``Hang`` inside the block when it takes longer."""

    def lost(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, lost)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
