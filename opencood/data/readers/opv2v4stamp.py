"""Reader of OPV2V as STAMP uses it: the scenarios and agents of the assignment file (spec gencomm.md, section 9)."""

from __future__ import annotations

from typing import ClassVar

from opencood.data.readers.base import Conventions
from opencood.data.readers.opv2v import OPV2VReader
from opencood.registry import register


@register("reader", "opv2v4stamp")
class STAMPReader(OPV2VReader):
    """OPV2V without the scenarios and agents that ``heter.assignment_path`` does not list; the others in its order."""

    conventions: ClassVar[Conventions] = Conventions(closed=True)
