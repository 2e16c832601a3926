#!/usr/bin/env python
"""Run the benchmarks of this folder: each figure beside a plain baseline, as a ratio.

``python benchmarks/run.py [NAME...]`` runs ``benchmarks/<NAME>.py`` (default: all). A benchmark module has a function
``run() -> list of {name, value, unit, baseline, ratio}``; baseline and ratio are None where there is none. Rows may
split their value into ``worker`` (the loader's process) and ``device``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
for folder in (HERE.parent, HERE):  # the clone, and the helpers of the benchmarks
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen benchmarks, print their table, save everything as JSON."""
    available = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run" and not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(available)}")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON files")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(available))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(available)}")

    rows: list[Row] = []
    for name in arguments.names or available:
        print(f"{name} ...", file=sys.stderr)
        rows += [{"benchmark": name, **row} for row in _rows(name)]
    print(table(rows))
    print(f"\nsaved {save(rows, arguments.out)}")
    return 0


def table(rows: Sequence[Row]) -> str:
    """Aligned text."""
    cells = [("benchmark", "what", "value", "unit", "plain", "ratio", "worker", "device")]
    for row in rows:
        ratio = row.get("ratio")
        shown = "" if ratio is None else f"{ratio:.1f}x"
        places = _number(row.get("worker")), _number(row.get("device"))
        cells.append(
            (
                row["benchmark"],
                row["name"],
                _number(row["value"]),
                row["unit"],
                _number(row["baseline"]),
                shown,
                *places,
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def save(rows: Sequence[Row], folder: Path) -> Path:
    """Write ``<date>_<machine>.json``; no host name."""
    from _timing import CLOCK

    from opencood.experiments.machine import machine_facts

    now = datetime.now(UTC)
    machine = {"clock": CLOCK, **machine_facts()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d_%H%M%S}_{machine['architecture']}_{machine['cores']}cores.json"
    content = {"date": now.isoformat(timespec="seconds"), "machine": machine, "results": list(rows)}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _rows(name: str) -> list[Row]:
    """Of one benchmark, in a process of its own: memory is counted too, and nobody starts with what others left.

    A copy of this process, which has loaded nothing heavy; a spawned one would make loader workers spawn, too.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(_run, name).result()


def _run(name: str) -> list[Row]:
    return _load(name).run()  # type: ignore[no-any-return]


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    raise SystemExit(main())
