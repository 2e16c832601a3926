"""Colours and sizes of all pictures (published colours: tools.md, section 7)."""

from __future__ import annotations

from matplotlib.colors import LinearSegmentedColormap

BACKGROUND = "#0e1218"
PANEL = "#141a22"
GRID = "#2b3440"
RING = "#4a5768"
TEXT = "#e8edf2"
MUTED = "#8b98a8"
HALO = "#0b0e13"

GROUND_TRUTH = "#00ff00"
PREDICTION = "#ff0000"
PREDICTION_TEXT = "#ff8a80"
MISSED = "#ffd54a"

# Low points recede, high ones stand out; no red, green or yellow, which belong to the boxes.
HEIGHT = LinearSegmentedColormap.from_list("height", ["#3f659b", "#5c8fca", "#93c0ec", "#eaf3fd"])
HEIGHT_RANGE = (-2.2, 1.5)

# Points by agent: the ego is nearly white, collaborators have their own hue.
AGENT_POINTS = ("#c9d6e4", "#4ea3ff", "#c58cff", "#ffa94d", "#3fd0c9")

_MODALITIES = {
    "m1": (0, 191, 255),
    "m2": (255, 185, 15),
    "m3": (138, 211, 222),
    "m4": (32, 60, 160),
}
_OTHER = (66, 66, 66)

CURVES = ("#ff8a80", "#93c0ec", "#3fd0c9", "#ffa94d", "#c58cff")
BARS = ("#a9c8ec", "#5b98d9", "#2f69b0")


def curve(position: int) -> tuple[str, str]:
    """Colour and dashes of a curve by its position; beyond the colours they start again with other dashes."""
    return CURVES[position % len(CURVES)], ("-", "--", ":", "-.")[position // len(CURVES) % 4]


def modality_color(modality: str) -> tuple[float, float, float]:
    """RGB in 0..1 of a modality name; unknown names share one grey."""
    red, green, blue = _MODALITIES.get(modality, _OTHER)
    return red / 255, green / 255, blue / 255


def rgb(color: str) -> tuple[float, float, float]:
    """RGB in 0..1 of ``#rrggbb``."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
