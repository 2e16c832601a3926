"""Published command lines that another tool does better here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from opencood.tools._cli import Parser

Main = Callable[[Sequence[str] | None], int | None]
log = logging.getLogger("opencood")


def alias(name: str, better: str, main: Main) -> Main:
    """``main`` under an older name, which says once what it is called here."""

    def named(argv: Sequence[str] | None = None) -> int | None:
        log.info("note: %s is the published name of %s", name, better)
        return main(argv)

    return named


def ignore(made: Parser, **reasons: str) -> Callable[[Any], None]:
    """Accept published arguments without effect; the function returned says so once for those that were given."""
    for name, reason in reasons.items():
        made.add_argument(f"--{name}", nargs="?", const=True, help=f"accepted and ignored: {reason}")

    def tell(given: Any) -> None:
        for name, reason in reasons.items():
            if getattr(given, name) is not None:
                log.warning("--%s is ignored: %s", name, reason)

    return tell
