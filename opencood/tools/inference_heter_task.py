#!/usr/bin/env python
"""The older name of inference_heter_task_average.py."""

from __future__ import annotations

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools import inference_heter_task_average
from opencood.tools._alias import alias
from opencood.tools._cli import run

main = alias("inference_heter_task.py", "inference_heter_task_average.py", inference_heter_task_average.main)

if __name__ == "__main__":
    run(main)
