"""Damage to one file: what disks, downloads and people do to it.

Every mutation is a function of content and generator. It also says whether a reader must notice (``certain``): some
damage cannot be seen, such as a flipped bit in the last digit of a coordinate, or metadata that end a few objects
early.
"""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Content = bytes | None  # None: the file is gone
_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")
_WORDS = (
    b"nan", b".nan", b"NaN", b"Infinity", b"-.inf", b"1e400", b"-1e30", b"1e18", b"99999999999999999999", b"-1", b"0",
    b"null", b"[]", b'""', b"*x", b"&x 1",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, "", "text", [], {}, 0, -1, 10**19, 1e300, float("nan"), float("-inf"), [[1.0]], True, {"a": 1}, b"bytes",
)  # fmt: skip
_FLOATS = np.array([np.nan, np.inf, -np.inf, 1e30, -1e12, 3e38], "<f4")
_HEADER = 220  # bytes in front of a file that say what it is
_DEEP = 100_000


@dataclass(frozen=True)
class Damaged:
    """A damaged file: its new content, and whether a reader must notice."""

    mutation: str
    content: Content
    certain: bool


def damage(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Damaged:
    """Damage the content of a file in one way, drawn at random; it always differs from the original."""
    names = list(MUTATIONS)
    while True:
        name = names[rng.integers(len(names))]
        result = MUTATIONS[name](path, content, others, rng)
        if result is not None and result[0] != content:
            return Damaged(name, *result)


Result = tuple[Content, bool] | None


def missing(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """The file is gone. Metadata of one stamp may be absent: that is how stamps are known."""
    return None, path.suffix != ".yaml"


def empty(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """Nothing was written."""
    return b"", True


def truncated(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """A download stopped. YAML may stop between two objects, a raw cloud between two points."""
    kept = int(rng.integers(1, max(2, len(content) * 9 // 10)))
    hidden = path.suffix == ".yaml" or (path.suffix == ".bin" and kept % 4 == 0) or _is_picture(path, kept, content)
    return content[:kept], not hidden


def _is_picture(path: Path, kept: int, content: bytes) -> bool:
    return path.suffix in (".png", ".jpg") and kept > len(content) // 2


def one_bit(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """One bit of a disk flipped."""
    return _flipped(content, 1, len(content), rng), False


def many_bits(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """A bad block."""
    return _flipped(content, int(rng.integers(2, 60)), len(content), rng), False


def header_bits(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """Bits of the beginning, where formats keep types and lengths."""
    return _flipped(content, int(rng.integers(1, 9)), min(_HEADER, len(content)), rng), False


def zeros(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """A hole in a sparse file: the rest reads as zeros."""
    start = int(rng.integers(0, len(content)))
    return content[:start] + bytes(len(content) - start), False


def all_zeros(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """The whole file is a hole. A raw cloud of zeros is one of points at the sensor."""
    return bytes(len(content)), path.suffix != ".bin"


def noise(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """Something else entirely, of the same length."""
    return rng.bytes(len(content)), path.suffix != ".bin"


def inserted(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """Bytes that do not belong there."""
    at = int(rng.integers(0, len(content)))
    return content[:at] + rng.bytes(int(rng.integers(1, 9))) + content[at:], False


def twice(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """A resumed download that began again."""
    return content + content, False


def swapped(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """Another file of the data set under this name; one of another kind must be noticed."""
    other = others[rng.integers(len(others))]
    foreign = other.suffix != path.suffix and {other.suffix, path.suffix} != {".png", ".jpg"}
    # Any bytes are a raw cloud, and every JSON file is a YAML file.
    return other.read_bytes(), foreign and path.suffix != ".bin" and other.suffix != ".json"


def number(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """One number of a text, or of the text in front of points, is another word."""
    body = content.find(b"\nDATA ") + 1 or len(content)
    limit = body if path.suffix == ".pcd" and b"DATA ascii" not in content[:400] else len(content)
    found = list(_NUMBER.finditer(content, 0, limit))
    if path.suffix not in (".yaml", ".json", ".pcd") or not found:
        return None
    chosen = found[rng.integers(len(found))]
    return content[: chosen.start()] + _WORDS[rng.integers(len(_WORDS))] + content[chosen.end() :], False


def point(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """One value of a cloud is no number, or absurd. Files of real sensors may hold NaN, which readers drop."""
    if path.suffix not in (".bin", ".pcd") or b"DATA ascii" in content or b"DATA binary_compressed" in content:
        return None
    start = content.find(b"\n", content.find(b"\nDATA ") + 1) + 1 if path.suffix == ".pcd" else 0
    values = np.frombuffer(content, "<f4", offset=start, count=(len(content) - start) // 4).copy()
    values[rng.integers(len(values))] = _FLOATS[rng.integers(len(_FLOATS))]
    return content[:start] + values.tobytes(), False


def structure(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """A key or an entry is missing, doubled, or of another kind."""
    load, dump = _codec(path)
    if load is None:
        return None
    tree = copy.deepcopy(load(content))
    places = list(_places(tree))
    holder, key = places[rng.integers(len(places))]
    action = rng.integers(3)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = _VALUES[rng.integers(len(_VALUES))]
    try:
        return dump(tree), False
    except (TypeError, ValueError, yaml.YAMLError):  # JSON knows no bytes
        return None


def deep(path: Path, content: bytes, others: list[Path], rng: np.random.Generator) -> Result:
    """Brackets within brackets, more than any stack holds."""
    if path.suffix not in (".yaml", ".json"):
        return None
    return (b"- " * _DEEP if path.suffix == ".yaml" and rng.integers(2) else b"[" * _DEEP + b"]" * _DEEP), True


MUTATIONS: dict[str, Callable[[Path, bytes, list[Path], np.random.Generator], Result]] = {
    function.__name__: function
    for function in (
        missing, empty, truncated, one_bit, many_bits, header_bits, zeros, all_zeros, noise, inserted, twice, swapped,
        number, point, structure, deep,
    )
}  # fmt: skip


def _flipped(content: bytes, count: int, limit: int, rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    changed[rng.integers(0, limit, count)] ^= np.uint8(1) << rng.integers(0, 8, count).astype(np.uint8)
    return changed.tobytes()


def _codec(path: Path) -> tuple[Callable[[bytes], Any] | None, Callable[[Any], bytes]]:
    if path.suffix == ".json":
        return json.loads, lambda tree: json.dumps(tree).encode()
    if path.suffix == ".yaml":
        return yaml.safe_load, lambda tree: yaml.safe_dump(tree).encode()
    if path.suffix == ".pkl":
        return pickle.loads, lambda tree: pickle.dumps(tree, protocol=3)
    return None, bytes


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of nested maps and lists."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(entries):
        yield tree, key
        yield from _places(value)
