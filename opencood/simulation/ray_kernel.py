"""Ray casting against upright boxes and the ground, column by column (numba).

Boxes stand upright, so all beams of one azimuth share the same plan view: where the column enters and leaves a
footprint is computed once, then each beam only compares heights. A box is tried only by the columns it can meet.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

GROUND = -1
NOTHING = -2
_FAR = 1e30
_TINY = 1e-12


@njit(cache=True)
def _column_span(box, x, y, first_azimuth, step, columns):
    """First column and number of columns whose azimuth may meet a footprint seen from (x, y)."""
    dx, dy = box[0] - x, box[1] - y
    cos, sin = math.cos(box[2]), math.sin(box[2])
    along, across = -dx * cos - dy * sin, dx * sin - dy * cos
    if abs(along) <= box[3] + 1e-6 and abs(across) <= box[4] + 1e-6:
        return 0, columns
    centre = math.atan2(dy, dx)
    low, high = 0.0, 0.0
    for i in range(4):
        u = box[3] if i < 2 else -box[3]
        v = box[4] if i % 2 == 0 else -box[4]
        turn = math.atan2(dy + u * sin + v * cos, dx + u * cos - v * sin) - centre
        turn -= 2.0 * math.pi * math.floor(turn / (2.0 * math.pi) + 0.5)
        low, high = min(low, turn), max(high, turn)
    start = int(math.floor((centre + low - first_azimuth) / step))
    stop = int(math.ceil((centre + high - first_azimuth) / step))
    return start % columns, min(stop - start + 1, columns)


@njit(cache=True)
def _candidates(boxes, skip, x, y, first_azimuth, step, columns):
    """Candidate boxes of every column as one flat list with column offsets."""
    count = len(boxes)
    starts, widths = np.zeros(count, np.int64), np.zeros(count, np.int64)
    offsets = np.zeros(columns + 1, np.int64)
    for k in range(count):
        if skip[k]:
            continue
        starts[k], widths[k] = _column_span(boxes[k], x, y, first_azimuth, step, columns)
        for i in range(widths[k]):
            offsets[(starts[k] + i) % columns + 1] += 1
    for a in range(columns):
        offsets[a + 1] += offsets[a]
    flat = np.zeros(offsets[columns], np.int64)
    filled = offsets[:-1].copy()
    for k in range(count):
        for i in range(widths[k]):
            column = (starts[k] + i) % columns
            flat[filled[column]] = k
            filled[column] += 1
    return flat, offsets


@njit(cache=True)
def _crossing(box, x, y, cos_ray, sin_ray):
    """Planar entry and exit distance of a ray through a footprint, and |cos| of the incidence on the entered side.

    A ray that misses gives entry > exit; one that starts inside enters at 0.
    """
    cos, sin = math.cos(box[2]), math.sin(box[2])
    dx, dy = x - box[0], y - box[1]
    ox, oy = dx * cos + dy * sin, dy * cos - dx * sin
    ux, uy = cos_ray * cos + sin_ray * sin, sin_ray * cos - cos_ray * sin
    entry, leave, incidence = 0.0, _FAR, 0.0
    for axis in range(2):
        o, u, half = (ox, ux, box[3]) if axis == 0 else (oy, uy, box[4])
        if abs(u) < _TINY:
            if abs(o) > half:
                return 1.0, 0.0, 0.0
            continue
        near, far = (-half - o) / u, (half - o) / u
        if near > far:
            near, far = far, near
        if near > entry:
            entry, incidence = near, abs(u)
        leave = min(leave, far)
    return entry, leave, incidence


@njit(cache=True)
def cast_columns(boxes, skip, origin, azimuths, slopes, max_range, distance, hit, incidence):
    """Cast all beams of all columns; see ``lidar.cast`` for the meaning of the arrays, which are filled in place."""
    x, y, z = origin[0], origin[1], origin[2]
    columns, beams = len(azimuths), len(slopes)
    step = 2.0 * math.pi / columns
    flat, offsets = _candidates(boxes, skip, x, y, azimuths[0], step, columns)
    stretch = np.sqrt(1.0 + slopes * slopes)
    for a in range(columns):
        cos_ray, sin_ray = math.cos(azimuths[a]), math.sin(azimuths[a])
        for b in range(beams):
            planar = -z / slopes[b] if slopes[b] < 0.0 else _FAR
            in_range = planar * stretch[b] <= max_range
            distance[a, b] = planar if in_range else max_range / stretch[b]
            hit[a, b] = GROUND if in_range else NOTHING
            incidence[a, b] = abs(slopes[b]) / stretch[b]
        for i in range(offsets[a], offsets[a + 1]):
            k = flat[i]
            entry, leave, side = _crossing(boxes[k], x, y, cos_ray, sin_ray)
            if entry > leave:
                continue
            bottom, top = boxes[k, 5], boxes[k, 6]
            for b in range(beams):
                if entry >= distance[a, b]:
                    continue
                slope = slopes[b]
                height = z + entry * slope
                planar, cosine = entry, side / stretch[b]
                if height > top or height < bottom:
                    if slope == 0.0:
                        continue
                    planar = ((top if height > top else bottom) - z) / slope
                    cosine = abs(slope) / stretch[b]
                    if planar < entry or planar > leave:
                        continue
                elif entry == 0.0:
                    continue
                if planar < distance[a, b]:
                    distance[a, b], hit[a, b], incidence[a, b] = planar, k, cosine
        for b in range(beams):
            distance[a, b] *= stretch[b]
