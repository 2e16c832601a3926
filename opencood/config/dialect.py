"""The YAML dialect of hypes files: YAML 1.1, wider floats, no object tags except those of saved ``config.yaml`` files.

Source: spec config.md section 1. Numbers written as ``1e-10`` are floats; PyYAML alone reads them as text.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, cast

import numpy as np
import yaml

try:
    from yaml import CSafeDumper as _BaseDumper
    from yaml import CSafeLoader as _BaseLoader
except ImportError:  # a PyYAML without libyaml
    from yaml import SafeDumper as _BaseDumper  # type: ignore[assignment]
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment]

FLOAT_TAG = "tag:yaml.org,2002:float"
BINARY_TAG = "tag:yaml.org,2002:binary"
OBJECT_TAGS = "tag:yaml.org,2002:python/"
_FLOAT_WITH_EXPONENT = re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9_]+)[eE][-+]?[0-9]+$")
_FLOAT_STARTS = list("-+.0123456789")
_PLAIN_TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "binary", "timestamp")
_CONVERTED_TAGS = ("int", "float", "binary", "timestamp")  # text that may be no such value
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMBER_KINDS = "biuf"
_DEEPEST = 1000  # levels of nesting; hypes files have about ten
_NESTED_LINE = re.compile(rb"(?:[-?:] +){1000}")  # a list in a list in a list, all on one line
_OPENING, _CLOSING = np.frombuffer(b"[{", np.uint8), np.frombuffer(b"]}", np.uint8)


def _refuse_depth(content: bytes) -> None:
    """Raise a YAML error for nesting that would exhaust the stack inside libyaml, which ends the process."""
    if content.count(b"[") + content.count(b"{") > _DEEPEST:
        characters = np.frombuffer(content, np.uint8)
        steps = np.isin(characters, _OPENING).astype(np.int64) - np.isin(characters, _CLOSING)
        too_deep = int(np.cumsum(steps).max()) > _DEEPEST
    else:
        too_deep = _NESTED_LINE.search(content) is not None
    if too_deep:
        raise yaml.composer.ComposerError(None, None, f"more than {_DEEPEST} levels of nesting", None)


class HypesLoader(_BaseLoader):
    """Safe loader of the dialect; has its own resolvers, so nothing else in the process parses differently."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._content = stream

    def get_single_node(self) -> yaml.Node | None:
        """Return the tree of nodes of the only document.

        Raises:
            yaml.YAMLError: no YAML, several documents, or too many levels.
        """
        if isinstance(self._content, str | bytes):
            _refuse_depth(self._content.encode() if isinstance(self._content, str) else self._content)
        return super().get_single_node()


class HypesDumper(_BaseDumper):
    """Writes plain YAML: no tags, no aliases, texts that look like numbers quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write shared values out in full."""
        return True


for _class in (HypesLoader, HypesDumper):
    _class.add_implicit_resolver(FLOAT_TAG, _FLOAT_WITH_EXPONENT, _FLOAT_STARTS)


def _refuse(loader: HypesLoader, node: yaml.Node) -> Any:
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    problem = f"the tag '{tag}' is not allowed; write plain maps, lists, numbers and text"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _tuple(loader: HypesLoader, node: yaml.Node) -> list[Any]:
    return loader.construct_sequence(cast(yaml.SequenceNode, node), deep=True)


def _ordered_dict(loader: HypesLoader, node: yaml.Node) -> dict[Any, Any]:
    arguments = loader.construct_sequence(cast(yaml.SequenceNode, node), deep=True)
    return dict(arguments[0]) if arguments else {}


def _ndarray_name(loader: HypesLoader, node: yaml.Node) -> None:
    return None


def _apply_parts(loader: HypesLoader, node: yaml.Node) -> tuple[list[Any], list[Any]]:
    """Arguments and state of a ``!!python/object/apply`` node, which is a list or a map with ``args`` and ``state``."""
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True), []
    content = loader.construct_mapping(cast(yaml.MappingNode, node), deep=True)
    return list(content.get("args", [])), list(content.get("state", []))


def _dtype(loader: HypesLoader, node: yaml.Node) -> np.dtype:
    arguments, state = _apply_parts(loader, node)
    dtype = np.dtype(str(arguments[0]))
    if dtype.kind not in _NUMBER_KINDS:
        _refuse(loader, node)
    return dtype.newbyteorder(state[1]) if len(state) > 1 and state[1] in ("<", ">") else dtype


def _scalar(loader: HypesLoader, node: yaml.Node) -> Any:
    (dtype, content), _ = _apply_parts(loader, node)
    return np.frombuffer(content, dtype=dtype)[0].item()


def _array(loader: HypesLoader, node: yaml.Node) -> list[Any]:
    _, state = _apply_parts(loader, node)
    _, shape, dtype, is_fortran, content = state
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if is_fortran else "C").tolist()


def _guarded(constructor: Any) -> Any:
    """A value that is not what its tag says becomes a YAML error with its line instead of a ValueError without one."""

    def construct(loader: HypesLoader, node: yaml.Node) -> Any:
        try:
            return constructor(loader, node)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"unreadable value: {error}", node.start_mark
            ) from error

    return construct


def _register_constructors() -> None:
    for name in _PLAIN_TAGS:
        tag = f"tag:yaml.org,2002:{name}"
        constructor = _BaseLoader.yaml_constructors[tag]
        HypesLoader.add_constructor(tag, _guarded(constructor) if name in _CONVERTED_TAGS else constructor)
    prefix = OBJECT_TAGS
    saved = {
        f"{prefix}tuple": _tuple,
        f"{prefix}object/apply:collections.OrderedDict": _ordered_dict,
        f"{prefix}name:numpy.ndarray": _ndarray_name,
        f"{prefix}object/apply:numpy.dtype": _dtype,
    }
    for module in _NUMPY_MODULES:
        saved[f"{prefix}object/apply:{module}.scalar"] = _scalar
        saved[f"{prefix}object/apply:{module}._reconstruct"] = _array
    for tag, constructor in saved.items():
        HypesLoader.add_constructor(tag, _guarded(constructor))
    HypesLoader.add_constructor(None, _refuse)


_register_constructors()
