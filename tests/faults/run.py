"""Damage many files of every format and read them: python tests/faults/run.py --n 100000

Prints one line a format and every fault; exit code 1 when there is one. A hang or a runaway allocation ends the process
with the stack, after the last damaged file was named in --journal.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.harness import attack
from tests.faults.trees import TREES, copied

_DEADLINE = 120  # seconds for one damaged file, then the process ends
_MEMORY = 24 << 30  # bytes of address space


def main() -> int:
    """Attack one format after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1200, help="damaged files over all formats (default: 1200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", nargs="+", choices=list(TREES), default=list(TREES))
    parser.add_argument("--root", type=Path, help="damage a copy of this OPV2V-like split instead of the small tree")
    parser.add_argument("--journal", type=Path, help="file that names the damaged file being read")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["OPENCOOD_CACHE"] = f"{scratch}/cache"
        for name in options.format:
            folder = Path(scratch) / name
            tree = copied(folder, options.root, name) if options.root else TREES[name](folder)

            def watch(label: str) -> None:
                faulthandler.dump_traceback_later(_DEADLINE, exit=True)
                if options.journal:
                    options.journal.write_text(label + "\n")

            outcome = attack(tree, options.n // len(options.format), options.seed, watch)
            print(f"{name}: {outcome}", flush=True)  # noqa: T201
            faults += len(outcome.faults)
    faulthandler.cancel_dump_traceback_later()
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
