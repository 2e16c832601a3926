"""Published detectors, and parts of them, that this version cannot build: they are refused by name, with the reason.

Only names that nobody registered are looked up here, so an entry is without effect once its row exists.
"""

from __future__ import annotations

import re

_NOT_YET = "is not available in this version"
_FAMILIES = (
    (
        r"\w*diffcomm\w*|\w*gmatch\w*",
        "its modules were never published; its successors are heter_model_baseline_w_gencomm_stage1 and _stage2",
    ),
    (
        r"heter_stamp\w*",
        f"STAMP's protocol {_NOT_YET}",
    ),
    (r"point_transformer", "nothing describes how this encoder is built"),
)


def why_unavailable(core_method: str) -> str | None:
    """Why a published ``core_method`` of a model, or of a modality's encoder, cannot be built here; None for others."""
    return next((reason for pattern, reason in _FAMILIES if re.fullmatch(pattern, core_method, re.IGNORECASE)), None)
