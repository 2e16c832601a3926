"""Reader of V2XSet: the OPV2V format with roadside units (spec data.md, section 2.3)."""

from __future__ import annotations

from typing import ClassVar

from opencood.data.readers.base import Conventions
from opencood.data.readers.opv2v import OPV2VReader
from opencood.registry import register


@register("reader", "v2xset")
class V2XSetReader(OPV2VReader):
    """V2XSet: no visibility maps, so that camera labels are all objects in a fixed range."""

    without_cameras: ClassVar[frozenset[str]] = frozenset({"2021_09_09_13_20_58"})
    conventions: ClassVar[Conventions] = Conventions(camera_label_range=(-45, -45, -3, 45, 45, 1))
