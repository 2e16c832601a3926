"""What all writers have in common: who may take part, and what is known of a scenario that was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from opencood.simulation.recording import Frame
from opencood.simulation.scenario import ScenarioPlan


@dataclass(frozen=True)
class Cast:
    """Who takes part in a scenario of a format.

    Attributes:
        cars: fewest and most connected cars.
        roadside: fewest and most roadside units.
    """

    cars: tuple[int, int] = (1, 5)
    roadside: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class WrittenScenario:
    """What was written.

    Attributes:
        split, name: where it belongs; the name is the format's.
        agents: names of the agents.
        digest: fingerprint (sha256) of all paths and contents.
        bytes: size of its files.
        listing: what the format's list of frames says about it, for ``finish``.
    """

    split: str
    name: str
    agents: tuple[str, ...]
    digest: str
    bytes: int
    listing: tuple[Any, ...] = ()


class Writer(Protocol):
    """Writes scenarios in one format.

    Attributes:
        cast: who may take part.
        owns: names in the data set's folder that belong to the format.
        splits: what of the folder a configuration names to open train, validate and test.
    """

    cast: ClassVar[Cast]
    owns: ClassVar[tuple[str, ...]]
    splits: ClassVar[Mapping[str, str]]

    def write(self, plan: ScenarioPlan, frames: Iterable[Frame], protocol: Mapping[str, Any]) -> WrittenScenario:
        """Write one scenario; its files appear only when all of them are complete.

        Args:
            plan: what it was simulated from.
            frames: the recording, played once.
            protocol: what a reader may want to know about the simulation.

        Raises:
            StorageError: the disk is full or not writable.
        """

    def finish(self, scenarios: Iterable[WrittenScenario], seed: int) -> None:
        """Write what stands once for all scenarios, which come in the order of their plans.

        Raises:
            StorageError: the disk is full or not writable.
        """


@dataclass
class Tally:
    """Counts and fingerprints what is written below a folder."""

    folder: Path
    size: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def save(self, relative: Path, content: bytes) -> None:
        """Write one file, with the folders it needs."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.add(relative.as_posix().encode() + b"\0" + content)
        self.size += len(content)

    def add(self, content: bytes) -> None:
        """Take something into the fingerprint that is written elsewhere."""
        self._digest.update(content)

    @property
    def digest(self) -> str:
        """Fingerprint (sha256) of all paths and contents so far."""
        return self._digest.hexdigest()
