"""Poses corrected by the boxes that several agents detect: CoAlign's box alignment (spec homogeneous.md, section 8)."""

from opencood.geometry.alignment.align import Alignment, AlignmentOptions, align_boxes

__all__ = ["Alignment", "AlignmentOptions", "align_boxes"]
