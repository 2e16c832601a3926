"""Colours of surfaces, computed where a ray meets them (numba). Colours are linear, lengths metres.

``blur`` is the size of a pixel on the surface: details smaller than it fade away instead of flickering.
"""

from __future__ import annotations

import math

from numba import njit

TYRE, RIM, DARK, GLASS = 0.03, 0.32, 0.02, -1.0  # a first channel of GLASS stands for a pane that mirrors the sky
_FLOOR, _DASH, _GAP = 3.1, 3.0, 4.5


@njit(cache=True, error_model="numpy")
def hashed(i, j, seed):
    """A number in [0, 1) of two integers and a seed."""
    h = (i * 73856093) ^ (j * 19349663) ^ (seed * 83492791)
    h &= 0x7FFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0x7FFFFFFF
    h = ((h ^ (h >> 13)) * 3266489917) & 0x7FFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@njit(cache=True, error_model="numpy")
def noise(x, y, seed):
    """Smooth noise in [0, 1) with features of size 1."""
    i, j = math.floor(x), math.floor(y)
    u, v = x - i, y - j
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    i, j = int(i), int(j)
    low = hashed(i, j, seed) * (1 - u) + hashed(i + 1, j, seed) * u
    high = hashed(i, j + 1, seed) * (1 - u) + hashed(i + 1, j + 1, seed) * u
    return low * (1 - v) + high * v


@njit(cache=True, error_model="numpy")
def _grain(x, y, size, blur, seed):
    """Noise around 0 (-0.5 to 0.5) with features of ``size``, faded where a pixel is larger."""
    if size < 0.2 * blur:
        return 0.0
    return (noise(x / size, y / size, seed) - 0.5) * min(1.0, size / max(blur, 1e-6))


@njit(cache=True, error_model="numpy")
def _line(distance, width, blur):
    """How much of a pixel a line covers: 0 to 1."""
    return min(max((width / 2 + blur / 2 - abs(distance)) / max(blur, 0.02), 0.0), 1.0) * min(
        1.0, width / max(blur, width)
    )


@njit(cache=True, error_model="numpy")
def ground_colour(x, y, blur, ground):
    """Asphalt with markings, parking strips, kerbs, footways, lawn; ``ground`` as in ``Appearance.ground``."""
    carriageway, kerb, corridor, mouth, length, lanes = ground[2], ground[3], ground[4], ground[5], ground[6], ground[7]
    dx, dy = x - ground[0], y - ground[1]
    side, along = 1e9, 0.0
    best = 1e9
    for k in range(8, len(ground)):
        cos, sin = math.cos(ground[k]), math.sin(ground[k])
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        outside = abs(v) if u > 0 else math.hypot(u, v)
        if outside < best:
            best, side, along = outside, v, u
    patches = _grain(x, y, 3.0, blur, 5) + 0.6 * _grain(x, y, 0.7, blur, 6) + 0.5 * _grain(x, y, 0.08, blur, 7)
    if best > corridor or along > length + 25:
        shade = 1 + 0.5 * patches
        return 0.10 * shade, 0.15 * shade, 0.05 * shade
    if best > kerb:
        shade = 0.34 * (1 + 0.18 * patches)
        joint = max(_line(abs(side) % 0.75 - 0.02, 0.03, blur), _line(along % 0.75 - 0.02, 0.03, blur))
        shade *= 1 - 0.35 * joint
        shade = shade + 0.12 if best < kerb + 0.15 else shade
        return shade, 0.97 * shade, 0.92 * shade
    shade = (0.105 if best < carriageway or along < mouth else 0.14) * (1 + 0.3 * patches)
    white = _markings(side, along, best, carriageway, mouth, lanes, blur) * (0.85 + 0.5 * _grain(x, y, 0.3, blur, 8))
    return shade + white * (0.62 - shade), shade + white * (0.62 - shade), shade + white * (0.59 - shade)


@njit(cache=True, error_model="numpy")
def _markings(side, along, best, carriageway, mouth, lanes, blur):
    """Cover of white paint: zebra, stop line, centre and lane lines, edge of the carriageway, parking bays."""
    if along < mouth + 1:
        return 0.0
    if along < mouth + 3:  # zebra
        return 1.0 if best < carriageway and (side + 50.0) % 1.0 < 0.5 and blur < 0.5 else 0.5 * (blur >= 0.5)
    if side < 0 and best < carriageway and abs(along - mouth - 4.3) < 0.2 + blur / 2:
        return min(1.0, 0.4 / max(blur, 0.4))
    if along < mouth + 4.6:
        return 0.0
    white = _line(side, 0.14, blur) if lanes > 1.5 or along < mouth + 16 else 0.0
    if along % (_DASH + _GAP) < _DASH:
        white = max(white, _line(side, 0.14, blur))
        if lanes > 1.5:
            white = max(white, _line(best - carriageway / 2, 0.12, blur))
    white = max(white, _line(best - carriageway + 0.12, 0.1, blur))
    if best > carriageway and along % 6.0 < 0.12 + blur:
        white = max(white, min(1.0, 0.12 / max(blur, 0.12)))
    return white


@njit(cache=True, error_model="numpy")
def wall_colour(u, z, width, height, colour, seed, blur):
    """A facade: floors of windows with frames, doors or shops below, a darker base."""
    base = 1 + 0.25 * _grain(u, z, 0.5, blur, seed & 255) + 0.15 * _grain(u, z, 0.06, blur, seed & 127)
    if blur < 0.12 and (seed & 3) == 0:  # courses of bricks
        course = math.floor(z / 0.08)
        joint = z % 0.08 < 0.012 or (u + 40 + 0.11 * (course % 2)) % 0.22 < 0.012
        base *= 1.25 if joint else 0.92 + 0.2 * hashed(int((u + 40) / 0.22), int(course), seed & 1023)
    r, g, b = colour[0] * base, colour[1] * base, colour[2] * base
    if z < 0.5 or z > height - 0.35:
        return 0.6 * r, 0.6 * g, 0.6 * b
    pitch = 2.2 + ((seed >> 4) & 7) * 0.25
    count = max(math.floor(width / pitch), 1.0)
    pitch = width / count
    place = (u + width / 2) / pitch
    s, floor = (place - math.floor(place) - 0.5) * pitch, math.floor(z / _FLOOR)
    t = z - floor * _FLOOR
    is_shop = floor == 0 and (seed >> 8) & 1
    half = 0.42 * pitch if is_shop else 0.26 * pitch
    low, high = (0.55, 2.6) if is_shop else (0.95, 2.45)
    if z + _FLOOR - t > height and floor > 0:
        return r, g, b
    if abs(s) < half and low < t < high:
        if min(half - abs(s), t - low, high - t) < 0.06 or abs(s) < 0.03:
            return 0.6, 0.6, 0.58
        if hashed(int(place), int(floor), seed & 4095) < 0.25:  # a curtain
            return 0.42, 0.4, 0.36
        return GLASS, 0.05, 0.07
    return r, g, b


@njit(cache=True, error_model="numpy")
def kiosk_colour(u, z, colour, second, seed):
    """Panels with a band of another colour and a poster."""
    if 0.9 < z < 1.8:
        i, j = int(math.floor(u / 0.35)), int(math.floor(z / 0.3))
        p = 0.35 + 0.8 * hashed(i, j, seed & 1023)
        return second[0] * p, second[1] * p, second[2] * p
    return 0.8 * colour[0], 0.8 * colour[1], 0.8 * colour[2]


@njit(cache=True, error_model="numpy")
def leaf_colour(u, v, colour, seed, blur):
    """Leaves: spots between dark gaps and bright tips."""
    spot = 1 + 1.2 * _grain(u, v, 0.35, blur, seed & 255) + 1.4 * _grain(u, v, 0.09, blur, seed & 127)
    spot = max(spot, 0.15)
    return colour[0] * spot, colour[1] * spot, 0.8 * colour[2] * spot


@njit(cache=True, error_model="numpy")
def _wheel(x, z, half_length, radius):
    """Distance to the middle of the nearer wheel in radii."""
    return math.hypot(abs(x) - 0.62 * half_length, z - radius) / radius


@njit(cache=True, error_model="numpy")
def vehicle_colour(x, y, z, across, face, glass, rubber, cargo, look_van, look_truck, body, colour, second, blur):
    """A vehicle's skin at body coordinates x, y, z: wheels, panes, lamps, plates, seams.

    ``across`` is the distance to the nearest vertical edge of the face; ``body`` x, y, half length, half width, height.
    """
    half, half_width, height = body[2], body[3], body[4]
    r, g, b = colour[0], colour[1], colour[2]
    if face == 2 or face == 3:
        d = _wheel(x, z, half, 0.48 if look_truck else 0.33)
        if d < 1.15:
            if d > 1.0:
                return DARK, DARK, DARK
            return (RIM, RIM, RIM + 0.02) if 0.12 < d < 0.62 else (TYRE, TYRE, TYRE)
    if rubber:
        return 0.04, 0.04, 0.045
    if cargo:
        rib = 0.75 if blur < 0.3 and (x + y + 40.0) % 0.6 < 0.04 else 1.0
        band = 0.5 if abs(z - 0.62 * height) < 0.12 * height and (face == 2 or face == 3) else 1.0
        if face == 0 and abs(y) < 0.03 + blur / 2:
            rib = 0.4
        if face == 0 and z < 0.32 * height and abs(y) > 0.75 * half_width:
            return 0.45, 0.02, 0.02
        return second[0] * rib, second[1] * rib * band, second[2] * rib * band
    if face == 5:
        return r, g, b
    if glass:
        if across < 0.07 or z > height - 0.07:
            return r, g, b
        if (face == 2 or face == 3) and abs(x + 0.1 * half) < 0.05:
            return DARK, DARK, DARK
        return GLASS, 0.02, 0.03
    if look_van and z > 0.56 * height and z < 0.9 * height and across > 0.08:
        if face == 1 or (face == 0 and abs(y) > 0.05):
            return GLASS, 0.02, 0.03
        if face != 0 and 0.2 * half < x < 0.6 * half:
            return GLASS, 0.02, 0.03
    if look_truck and z > 0.48 * height and z < 0.74 * height and across > 0.1 and face != 0:
        return GLASS, 0.02, 0.03
    return _details(x, y, z, face, half, half_width, height, r, g, b, blur)


@njit(cache=True, error_model="numpy")
def _details(x, y, z, face, half, half_width, height, r, g, b, blur):
    """Lamps, grille, plates and seams of the painted lower body."""
    side, level = abs(y) / half_width, z / height
    if face == 1:
        if 0.55 < side < 0.93 and 0.36 < level < 0.48:
            return 0.95, 0.95, 0.9
        if side < 0.5 and 0.26 < level < 0.45:
            return (0.75, 0.75, 0.72) if side < 0.27 and 0.3 < level < 0.37 else (0.03, 0.03, 0.03)
    if face == 0:
        if 0.58 < side < 0.95 and 0.4 < level < 0.54:
            return 0.55, 0.015, 0.01
        if side < 0.28 and 0.34 < level < 0.44:
            return 0.75, 0.75, 0.72
    if level < 0.24:
        return 0.05, 0.05, 0.05
    if (face == 2 or face == 3) and blur < 0.08:
        for seam in (-0.38, -0.05, 0.3):
            if abs(x - seam * half) < 0.012 + blur / 4:
                return 0.4 * r, 0.4 * g, 0.4 * b
        if abs(z - 0.52 * height) < 0.015 and 0.02 < abs(x / half + 0.02) < 0.12:
            return 0.02, 0.02, 0.02
    return r, g, b


@njit(cache=True, error_model="numpy")
def person_colour(z, face, body, colour, second):
    """Legs, a torso of another shade, a head."""
    level = z / body[4]
    if level > 0.85:
        return (0.05, 0.04, 0.03) if face == 5 or face == 0 or level > 0.97 else (second[0], second[1], second[2])
    if level > 0.48:
        return colour[0], colour[1], colour[2]
    shade = 0.35 if level > 0.05 else 0.1
    return shade * colour[2] + 0.02, shade * colour[0] + 0.02, shade * colour[1] + 0.04
