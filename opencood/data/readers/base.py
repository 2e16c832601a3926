"""What the data set asks of a reader, whatever the format."""

from __future__ import annotations

from typing import Protocol

from opencood.data.draws import Draws
from opencood.data.frame import Frame


class Reader(Protocol):
    """Frames of one split of a data set.

    Attributes:
        camera_label_range: camera labels are all objects in this range; None = those in the visibility map.
    """

    camera_label_range: tuple[float, ...] | None

    def __len__(self) -> int:
        """Number of frames."""

    def replan(self, draws: Draws, with_modalities: bool = True) -> None:
        """Start an epoch: training draws the order and the modalities of agents anew."""

    def frame(self, index: int) -> Frame:
        """Return a frame whose sensor files are not read yet.

        Raises:
            IndexError: there is no such frame.
            DataError: its metadata is missing or broken.
        """
