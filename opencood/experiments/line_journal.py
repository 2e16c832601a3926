"""What a long run has done so far, item by item: interrupted, it loses one item at most."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from opencood.errors import ConfigError, StorageError
from opencood.evaluation.files import write_text


class LineJournal:
    """JSON texts by number, a line each, behind a header that says what they were made with.

    Args:
        path: the file; what an interrupted run left in it is taken over.
        header: whatever decides the items.
        overwrite: begin anew.

    Raises:
        ConfigError: the file was left by a run with another header.
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        first = json.dumps(header, sort_keys=True)
        lines = [] if overwrite else list(_whole_lines(path))
        if lines and lines[0] != first:
            raise ConfigError(
                f"{path}: an interrupted run of another configuration, checkpoint or limit left this; "
                "--overwrite begins anew."
            )
        pairs = (line.partition(" ") for line in lines[1:])
        self.items: dict[int, str] = {int(number): text for number, _, text in pairs}
        write_text(path, "\n".join([first, *lines[1:]]) + "\n")

    def __enter__(self) -> LineJournal:
        self._file = self.path.open("a")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, number: int, item: Any) -> None:
        """Note an item that can be written as JSON.

        Raises:
            StorageError: the line could not be written.
        """
        self.items[number] = json.dumps(item)
        try:
            self._file.write(f"{number} {self.items[number]}\n")
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written ({error.strerror or error}).") from error


def _whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file; one that was not finished is left out."""
    if path.is_file():
        yield from (line[:-1] for line in path.read_text().splitlines(keepends=True) if line.endswith("\n"))
