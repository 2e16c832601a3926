"""One YAML file in, its data and the place of every key out; what is wrong with it is said with file and line."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opencood.config.dialect import BINARY_TAG, OBJECT_TAGS, HypesLoader
from opencood.config.source import Place
from opencood.errors import ConfigError, nearest

_KEY_LINE = re.compile(r"(?P<indent>\s*)(?P<key>[\w&.-]+)\s*:\s*(?P<value>.*)$")


@dataclass(frozen=True)
class Document:
    """The content of a configuration and where each part of it was written."""

    data: dict[str, Any]
    place: Place


def read_document(path: str | Path, repair: bool = False) -> Document:
    """Read one YAML file of the hypes dialect, without inheritance and without parsers.

    Args:
        repair: read what was probably meant where a key with a value is followed by deeper-indented keys, the one slip
            of published files that has an obvious remedy.

    Raises:
        ConfigError: missing or unreadable file, YAML errors, refused tags, content that is no map; with file and line.
    Warns:
        for each key that is given twice in one map (the last one wins), and for each repair.
    """
    name = str(path)
    text = _read_text(Path(path))
    try:
        return _parse(text, name)
    except ConfigError as error:
        meant = repaired(text) if repair else None
        if meant is None:
            raise
        document = _parse(meant, name)
        warnings.warn(f"repaired: {error}", stacklevel=2)
        return document


def _parse(text: str, name: str) -> Document:
    loader = HypesLoader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name}: expected a map of configuration keys, found {_kind(node)}.")
        _check_nodes(node, name)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(explain(error, name, text)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not readable as YAML: {error}") from error
    finally:
        loader.dispose()
    return Document(data, _places(node, name))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file.{nearest(path.name, siblings)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file ({error.reason} at byte {error.start}).") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "an empty file"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _check_nodes(root: yaml.Node, name: str) -> None:
    """Warn about duplicate keys, refuse bytes and values that contain themselves; a shared node is visited once."""
    done: set[int] = set()
    open_nodes: set[int] = set()

    def visit(node: yaml.Node, of_object: bool) -> None:
        if node.tag == BINARY_TAG and not of_object:
            raise ConfigError(f"{name}:{node.start_mark.line + 1}: bytes (!!binary) are not allowed; write text.")
        if id(node) in open_nodes:
            raise ConfigError(f"{name}:{node.start_mark.line + 1}: an alias refers to the value that contains it.")
        if id(node) in done or isinstance(node, yaml.ScalarNode):
            return
        done.add(id(node))
        open_nodes.add(id(node))
        below = of_object or node.tag.startswith(OBJECT_TAGS)
        if isinstance(node, yaml.MappingNode):
            _warn_duplicates(node, name)
            for _, value in node.value:
                visit(value, below)
        else:
            for value in node.value:
                visit(value, below)
        open_nodes.discard(id(node))

    visit(root, False)


def _warn_duplicates(node: yaml.MappingNode, name: str) -> None:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        word = str(key.value)
        if word in first and word != "<<":
            message = f"{name}:{line}: key '{word}' was already given in line {first[word]}; the last one is used."
            warnings.warn(message, stacklevel=2)
        first.setdefault(word, line)


def _places(root: yaml.Node, name: str) -> Place:
    """Places of all keys; a value reached through an alias has the place of its key, its content that of the anchor."""
    contents: dict[int, dict[str, Place]] = {}

    def children(node: yaml.Node) -> dict[str, Place]:
        if id(node) not in contents:
            pairs: list[tuple[str, int, yaml.Node]] = []
            if isinstance(node, yaml.MappingNode):
                pairs = [(str(key.value), key.start_mark.line, value) for key, value in node.value]
            elif isinstance(node, yaml.SequenceNode):
                pairs = [(str(i), value.start_mark.line, value) for i, value in enumerate(node.value)]
            contents[id(node)] = {key: Place(name, line + 1, children(value)) for key, line, value in pairs}
        return contents[id(node)]

    return Place(name, 1, children(root))


def explain(error: yaml.MarkedYAMLError, name: str, text: str) -> str:
    """Turn a YAML error into one sentence with file, line and what to do about it."""
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    where = f"{name}:{line + 1}"
    problem = error.problem or error.context or "not readable as YAML"
    if "mapping values are not allowed" in problem:
        return f"{where}: {_explain_nested(text.splitlines(), line)}"
    if "duplicate anchor" in problem or "duplicate anchor" in (error.context or ""):
        first = f" (first given in line {error.context_mark.line + 1})" if error.context_mark else ""
        return f"{where}: this anchor name is already taken{first}; give each '&anchor' of a file its own name."
    if "expected key" in problem:
        opened = f" of the map that starts in line {error.context_mark.line + 1}" if error.context_mark else ""
        advice = "Check its indentation, and whether the section head above it is missing or commented out."
        return f"{where}: this line does not line up with the keys{opened}. {advice}"
    if "or ']'" in problem or "or '}'" in problem:
        return f"{where}: {problem}. Quote texts with special characters and close every bracket."
    context = f" ({error.context})" if error.context else ""
    return f"{where}: {problem}{context}."


def repaired(text: str) -> str | None:
    """What was probably meant by a text in which a key with a value is followed by keys; None when that is not it."""
    try:
        yaml.compose(text, Loader=HypesLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        slip = _nested(text.splitlines(), mark.line) if mark and "mapping values" in (error.problem or "") else None
        return None if slip is None else slip.repaired(text)
    return None


@dataclass(frozen=True)
class Nested:
    """A key with a value in line ``holder``, below which line ``first`` begins deeper-indented keys of ``section``.

    ``named`` tells whether the first line is the head of the section itself.
    """

    holder: int
    first: int
    key: str
    value: str
    section: str
    named: bool

    def repaired(self, text: str) -> str:
        """The text with the section beside the key."""
        lines = text.splitlines()
        indent, deeper = _indent(lines[self.holder]), _indent(lines[self.first])
        if not self.named:
            lines.insert(self.first, f"{' ' * indent}{self.section}:")
            return "\n".join(lines) + "\n"
        end = self.first
        while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) >= deeper):
            lines[end] = lines[end][deeper - indent :]
            end += 1
        return "\n".join(lines) + "\n"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _nested(lines: list[str], line: int) -> Nested | None:
    """Find the key that already has a value when deeper-indented keys follow it (a slip in published files)."""
    here = _KEY_LINE.match(lines[line]) if line < len(lines) else None
    if here is None:
        return None
    for number in reversed(range(line)):
        holder = _KEY_LINE.match(lines[number].split(" #")[0].rstrip())
        if holder is None or len(holder["indent"]) >= len(here["indent"]):
            continue
        value = holder["value"].strip("'\" ")
        named = not here["value"].strip()
        section = here["key"] if named else value
        return Nested(number, line, holder["key"], value, section, named) if value else None
    return None


def _explain_nested(lines: list[str], line: int) -> str:
    here = _KEY_LINE.match(lines[line]) if line < len(lines) else None
    if here is None:
        return "a ':' is not allowed here; quote the text or check the indentation."
    slip = _nested(lines, line)
    if slip is None:
        return f"'{here['key']}:' is not allowed here; check the indentation and quote texts that contain ':'."
    return (
        f"'{here['key']}' is indented below '{slip.key}: {slip.value}', but a key with a value cannot hold other keys. "
        f"Probably meant: '{slip.key}: {slip.value}' and, at the same indentation, a map '{slip.section}:' with the "
        "keys below it."
    )
