"""One golden case: its files, its parameters, its expected values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tests.golden import compare, objects
from tests.golden.arrays import as_array, nest
from tests.golden.fill import fill_entries
from tests.golden.ledger import Ledger, Tracked
from tests.golden.values import describe, plain, shorten


class Case:
    """A case folder. See ``tests/golden/README.md`` for what a runner does with it."""

    def __init__(self, folder: Path, golden: Path, data: Iterable[Path] = ()) -> None:
        self.folder = folder
        self.golden = golden
        self.name = folder.name
        self.family = folder.parent.name
        self.data_folders = [path for path in (golden.parent / "data", *data) if path.is_dir()]
        self.meta = Tracked(yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8")) or {})
        inputs, self.wanted = _read_arrays(folder / "case.npz")
        self.inputs = Tracked(inputs)
        self.ledger = Ledger()
        self.object_ids: dict[str, list[int]] = {}

    @property
    def id(self) -> str:
        """``family/case``."""
        return f"{self.family}/{self.name}"

    @property
    def shared(self) -> Path:
        """Folder that holds ``data`` and ``golden``."""
        return self.data_folders[0].parent if self.data_folders else self.golden.parent

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        path = self.folder / "state_dict.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def state_dict(self) -> dict[str, tuple[int, ...]]:
        """Published entry names and shapes, in order; empty when no module is involved."""
        return {name: tuple(shape) for name, shape in self._parameters.items() if name != "int:"}

    def file(self, name: str) -> Path:
        """Another file of the case folder (``weights.npz``); files nobody asks for fail the case."""
        self.ledger.files.add(name)
        return self.folder / name

    def path(self, relative: str) -> Path:
        """A path that ``case.yaml`` writes relative to its own folder or to the data folder."""
        for base in (self.folder, *self.data_folders):
            if (base / relative).exists():
                if base == self.folder:
                    self.ledger.files.add(relative)
                return base / relative
        raise FileNotFoundError(f"{relative} is neither in {self.folder} nor in {[str(p) for p in self.data_folders]}")

    def hypes(self, section: str = "hypes") -> dict[str, Any]:
        """Copy of a configuration whose ``*_dir`` and ``*_path`` entries are made absolute where they exist."""
        return self._absolute(self.meta[section])

    def _absolute(self, node: Any, key: str = "") -> Any:
        if isinstance(node, Mapping):
            return {k: self._absolute(v, str(k)) for k, v in node.items()}
        if isinstance(node, list):
            return [self._absolute(item) for item in node]
        if isinstance(node, str) and node and key.endswith(("_dir", "_path")):
            try:
                return str(self.path(node))
            except FileNotFoundError:
                return node
        return node

    def tree(self, prefix: str = "") -> Any:
        """Inputs below ``prefix`` as nested dicts and lists of arrays (an empty dict when there are none)."""
        start = f"{prefix}/" if prefix else ""
        return nest({name[len(start) :]: self.inputs[name] for name in self.inputs if name.startswith(start)})

    def tensors(self, prefix: str = "") -> Any:
        """Like ``tree``, as torch tensors."""
        return _map_leaves(self.tree(prefix), lambda array: torch.from_numpy(np.array(array)))

    def tensor(self, name: str) -> torch.Tensor:
        """One input as a torch tensor."""
        return torch.from_numpy(np.array(self.inputs[name]))

    def check_parameters(
        self, module: torch.nn.Module, prefix: str = "", ordered: bool = True
    ) -> dict[str, torch.Tensor]:
        """Compare names, order, shapes and integer entries with ``state_dict.json``; return entries without ``prefix``.

        Raises:
            AssertionError: anything differs (a wrong name would give wrong values, not an error).
        """
        self.ledger.parameters_checked = True
        entries = {name[len(prefix) :]: t for name, t in module.state_dict().items() if name.startswith(prefix)}
        wanted = self.state_dict
        complaints = [f"no entry {name}" for name in wanted if name not in entries]
        complaints += [f"unknown entry {name}" for name in entries if name not in wanted]
        for name in wanted.keys() & entries.keys():
            if tuple(entries[name].shape) != wanted[name]:
                complaints.append(f"{name}: shape {list(entries[name].shape)}, expected {list(wanted[name])}")
        if not ordered and not complaints:
            entries = {name: entries[name] for name in wanted}
        if not complaints and list(entries) != list(wanted):
            first = next(i for i, (a, b) in enumerate(zip(entries, wanted, strict=True)) if a != b)
            complaints.append(
                f"order differs from entry {first} on: {list(entries)[first]}, expected {list(wanted)[first]}"
            )
        complaints += self._integer_complaints(entries)
        if complaints:
            raise AssertionError("state_dict.json: " + "; ".join(complaints[:20]) + f" ({len(complaints)} in all)")
        return entries

    def _integer_complaints(self, entries: Mapping[str, torch.Tensor]) -> list[str]:
        listed = self._parameters.get("int:")
        if listed is None:
            return []
        integral = {name for name, tensor in entries.items() if not tensor.dtype.is_floating_point}
        return [f"{name}: integer or not?" for name in sorted(integral ^ set(listed))]

    def fill(
        self,
        module: torch.nn.Module,
        prefix: str = "",
        keep_as_built: Iterable[str] | None = None,
        overrides: Mapping[str, float] | None = None,
        ordered: bool = True,
    ) -> torch.nn.Module:
        """Check the module's entries below ``prefix`` and give them their golden values, in place.

        ``keep_as_built`` (name patterns; default: the list in ``case.yaml``) stay as constructed, ``overrides`` maps
        name patterns to constants. With ``ordered`` False the entries may come in another order. Returns the module.
        """
        kept = self.meta.raw().get("keep_as_built", ()) if keep_as_built is None else keep_as_built
        fill_entries(self.check_parameters(module, prefix, ordered), kept, overrides)
        return module

    def check(self, key: str, got: Any, want: Any = None) -> None:
        """Compare an expected value of ``case.yaml`` (or ``want``, a part of it) exactly, after normalising types."""
        expected = self.meta.raw()[key] if want is None else want
        self.ledger.values.add(key)
        if plain(got) != plain(expected):
            self.problem(f"{key}: want {shorten(plain(expected))}, got {shorten(plain(got))}")

    def check_values(self, got: Mapping[str, Any], key: str = "expect_values") -> None:
        """Compare the entries of a batch that are not arrays. ``object_ids`` may come in any order."""
        self._check_entries(key, got, objects.same_value)
        wanted = self.meta.raw()[key]
        self.object_ids = {
            name: [int(i) for i in got[name]] for name in wanted if name.endswith("object_ids") and name in got
        }

    def check_keys(self, got: Mapping[str, Any], key: str = "expect_keys") -> None:
        """Compare dtype and shape (``float32 [3, 4]``) of every listed array of a batch."""
        described = {name: describe(value) for name, value in got.items() if name in self.meta.raw()[key]}
        self._check_entries(key, described, lambda name, a, b: a == b)

    def _check_entries(self, key: str, got: Mapping[str, Any], same: Callable[[str, Any, Any], bool]) -> None:
        self.ledger.values.add(key)
        for name, expected in self.meta.raw()[key].items():
            self.ledger.values.add(f"{key}/{name}")
            if name not in got:
                self.problem(f"{key}/{name}: missing")
            elif not same(name, plain(expected), plain(got[name])):
                self.problem(f"{key}/{name}: want {shorten(plain(expected))}, got {shorten(plain(got[name]))}")

    def compared(self, *names: str) -> None:
        """A runner's own comparison covered these stored outputs."""
        self.ledger.arrays.update(names)

    def problem(self, text: str) -> None:
        """Something is wrong; the case goes on, so that all differences are listed."""
        self.ledger.problems.append(text)

    def tolerances(self) -> compare.Tolerances:
        """Bounds per output name."""
        return compare.Tolerances(self.meta.raw(), self.family)

    def skipped(self, name: str) -> Any:
        """``"all"`` or the list of indices of a stored output that need not agree."""
        return (self.meta.raw().get("ignore") or {}).get(name, [])

    def compare_array(self, name: str, got: Any, bound: compare.Bound | None = None) -> None:
        """Compare one produced array with the stored one and note the result."""
        want, skip = compare.compared_samples(self.wanted[name], self.meta.raw()), self.skipped(name)
        if skip == "all":
            self.ledger.ignored.add(name)
            return
        self.ledger.arrays.add(name)
        if bound is None:
            statistic = compare.is_statistics(name, self.family)
            bound = self.tolerances().statistics() if statistic else self.tolerances().bound(name, want)
        try:
            found = compare.difference(name, want, as_array(got), bound, skip)
        except ValueError as error:
            self.problem(str(error))
            return
        self.ledger.distances[name] = compare.largest_distance(want, as_array(got))
        if found is not None:
            self.problem(str(found))


def _read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and outputs of an archive, without their ``in/`` and ``out/``; float16 inputs become float32."""
    inputs: dict[str, np.ndarray] = {}
    wanted: dict[str, np.ndarray] = {}
    if path.exists():
        with np.load(path) as archive:
            for key in archive.files:
                side, _, name = key.partition("/")
                array = archive[key]
                if side == "in":
                    inputs[name] = array.astype(np.float32) if array.dtype == np.float16 else array
                else:
                    wanted[name if side == "out" else key] = array
    return inputs, wanted


def _map_leaves(node: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(node, Mapping):
        return {key: _map_leaves(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_map_leaves(value, change) for value in node]
    return change(node)
