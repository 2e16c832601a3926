"""The control of a camera detector: the same test with the pictures of other frames must find nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opencood.data.frame import Agent, Frame
from opencood.errors import ConfigError
from opencood.evaluation.report import Report, evaluate
from opencood.experiments.inference import collect, reported_variant
from opencood.experiments.session import InferenceOptions, open_session


class OtherPictures:
    """A reader whose agents keep everything but their pictures, which are those of a frame half a data set away.

    The agents of the other frame take turns; where it has none with as many cameras, the own pictures stay.
    """

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    @property
    def conventions(self) -> Any:
        """Those of the reader."""
        return self._reader.conventions

    def __len__(self) -> int:
        return len(self._reader)

    def frame(self, index: int) -> Frame:
        """The frame with pictures of frame ``index + n / 2``."""
        frame, size = self._reader.frame(index), len(self)
        donors = self._reader.frame((index + size // 2) % size).agents
        agents = [_with_pictures_of(agent, donors[number % len(donors)]) for number, agent in enumerate(frame.agents)]
        return replace(frame, agents=tuple(agents))

    def replan(self, *arguments: Any, **options: Any) -> None:
        """Passed on to the reader."""
        self._reader.replan(*arguments, **options)


def run_camera_control(options: InferenceOptions) -> dict[str, Report]:
    """Evaluate a run folder with its own pictures and with those of other frames; writes no files.

    Returns:
        reports by name, ``own pictures`` first.

    Raises:
        ConfigError: the detector has no cameras, or the split has fewer than two frames.
    """
    session = open_session(replace(options, save_vis_interval=0))
    if len(session.dataset) < 2:
        raise ConfigError("camera_control: pictures can only be swapped in a split of at least two frames.")
    if not any(agent.cameras for agent in session.dataset.frame(0).agents):
        raise ConfigError("camera_control: the data set has no pictures; simulate it with --cameras.")
    reports = {}
    for name, reader in (
        ("own pictures", session.dataset.reader),
        ("pictures of other frames", OtherPictures(session.dataset.reader)),
    ):
        session.dataset.reader = reader
        detections, speed = collect(session)
        reports[name] = evaluate(
            detections, variant=reported_variant(session.hypes), frames_per_second=speed, notes=session.notes
        )
    return reports


def _with_pictures_of(agent: Agent, donor: Agent) -> Agent:
    if len(donor.cameras) != len(agent.cameras):
        return agent
    pairs = zip(agent.cameras, donor.cameras, strict=True)
    return replace(agent, cameras=tuple(replace(own, image=other.image, depth=other.depth) for own, other in pairs))
