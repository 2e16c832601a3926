"""Print how far a case is from its stored numbers: ``python -m tests.golden.show family/case [--golden DIR]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tests.golden import locate
from tests.golden.harness import Case, run_case


def report(case: Case) -> list[str]:
    """Lines with every compared output, its shape and largest deviation, then everything that is wrong."""
    ledger = run_case(case)
    width = max((len(name) for name in ledger.distances), default=0)
    lines = [
        f"{name:<{width}}  {str(list(case.wanted[name].shape)):<18} max |difference| {distance:.3g}"
        for name, distance in ledger.distances.items()
    ]
    lines += [f"expected values compared: {len(ledger.values)}", f"outputs ignored: {len(ledger.ignored)}"]
    return lines + [f"PROBLEM {text}" for text in ledger.problems or []] + ([] if ledger.problems else ["agrees"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", help="family/case")
    parser.add_argument("--golden", type=Path, default=locate.DEFAULT_GOLDEN)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    golden = arguments.golden.resolve()
    print("\n".join(report(Case(golden / arguments.case, golden, locate.data_folders()))))  # noqa: T201


if __name__ == "__main__":
    main()
