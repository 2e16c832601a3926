"""The published profilers, each of which is tools/profile.py with some arguments fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opencood.tools import profile
from opencood.tools._alias import alias, ignore

PICKLES = "a pickle runs whatever code it holds; frames come from the configuration, or are simulated"
TESTS_ONLY = "the configuration says what is fused"


def profiler(name: str, **fixed: object) -> Callable[[Sequence[str] | None], int | None]:
    """The main function of a published profiler; ``fixed`` are arguments of profile.py."""

    def main(argv: Sequence[str] | None) -> None:
        made = profile.parser()
        tell = ignore(made, input_data=PICKLES, fusion_method=TESTS_ONLY)
        given = made.parse_args(argv)
        tell(given)
        chosen = {key: value for key, value in fixed.items() if not getattr(given, key)}
        profile.measure(made, given, **chosen)

    told = "".join(f" --{key}" if value is True else f" --{key} ..." for key, value in fixed.items())
    return alias(f"{name}.py", f"profile.py{told}", main)
