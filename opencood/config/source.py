"""Where a configuration value was written: file and line of every key, through inheritance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Place:
    """File and line of one value, and the places of what it contains (list positions are ``"0"``, ``"1"``...)."""

    file: str
    line: int
    children: dict[str, Place] = field(default_factory=dict)

    def with_child(self, key: str, child: Place) -> Place:
        """Return a copy with one more (or another) child."""
        return replace(self, children={**self.children, key: child})

    def without(self, key: str) -> Place:
        """Return a copy that lacks one child."""
        return replace(self, children={k: v for k, v in self.children.items() if k != key})

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Source:
    """Line lookup for one loaded configuration."""

    root: Place

    def where(self, path: str) -> str:
        """Return ``"file.yaml:12"`` for a dotted key path; an unwritten key has that of its nearest parent."""
        place = self.root
        for key in path.split(".") if path else ():
            child = place.children.get(key)
            if child is None:
                break
            place = child
        return str(place)


def source_of(hypes: object, fallback: str = "hypes") -> Source:
    """Return the source a configuration carries, or one that only knows a name."""
    found = getattr(hypes, "source", None)
    return found if isinstance(found, Source) else Source(Place(fallback, 0))
