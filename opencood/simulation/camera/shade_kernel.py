"""Light on what the pixels of a camera see: sun with shadows, sky light, mirrored sky in panes, haze (numba)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from opencood.simulation.bodies import Material
from opencood.simulation.camera.appearance import Look
from opencood.simulation.camera.texture_kernel import (
    ground_colour,
    kiosk_colour,
    leaf_colour,
    noise,
    person_colour,
    vehicle_colour,
    wall_colour,
)
from opencood.simulation.ray_kernel import GROUND, NOTHING

_GLASS, _RUBBER, _METAL = int(Material.GLASS), int(Material.RUBBER), int(Material.METAL)
_PLAIN, _FACADE, _FOLIAGE, _KIOSK = int(Look.PLAIN), int(Look.FACADE), int(Look.FOLIAGE), int(Look.KIOSK)
_VAN, _TRUCK, _PERSON = int(Look.VAN), int(Look.TRUCK), int(Look.PERSON)
_CELL = 5.0
_SKY_LIGHT = 0.55
_HAZE = 600.0
_ACNE = 2e-3


@njit(cache=True, error_model="numpy")
def _shadow_span(box, to_sun, corner, cells, span):
    """Cells ``span`` = from x, to x, from y, to y that the shadow of a box on the ground may touch."""
    cos, sin = math.cos(box[2]), math.sin(box[2])
    wide, deep = abs(box[3] * cos) + abs(box[4] * sin), abs(box[3] * sin) + abs(box[4] * cos)
    for axis in range(2):
        reach = wide if axis == 0 else deep
        shift = -to_sun[axis] / to_sun[2] * box[6]
        low, high = box[axis] - reach + min(shift, 0.0), box[axis] + reach + max(shift, 0.0)
        span[2 * axis] = min(max(int((low - corner[axis]) / _CELL), 0), cells[axis] - 1)
        span[2 * axis + 1] = min(max(int((high - corner[axis]) / _CELL) + 1, 1), cells[axis])


@njit(cache=True, error_model="numpy")
def shadow_grid(boxes, to_sun, corner, cells):
    """Boxes that may take the sun from a point above each cell, as one flat list with offsets (cells + 1)."""
    offsets, span = np.zeros(cells[0] * cells[1] + 1, np.int64), np.zeros(4, np.int64)
    for k in range(len(boxes)):
        _shadow_span(boxes[k], to_sun, corner, cells, span)
        for i in range(span[0], span[1]):
            for j in range(span[2], span[3]):
                offsets[i * cells[1] + j + 1] += 1
    offsets[:] = np.cumsum(offsets)
    flat, filled = np.zeros(offsets[-1], np.int64), offsets[:-1].copy()
    for k in range(len(boxes)):
        _shadow_span(boxes[k], to_sun, corner, cells, span)
        for i in range(span[0], span[1]):
            for j in range(span[2], span[3]):
                cell = i * cells[1] + j
                flat[filled[cell]] = k
                filled[cell] += 1
    return flat, offsets


@njit(cache=True, error_model="numpy")
def _blocked(boxes, axis_x, k, x, y, z, to_sun):
    """Whether the way from a point to the sun goes through a box."""
    cos, sin = axis_x[k, 0], axis_x[k, 1]
    dx, dy = x - boxes[k, 0], y - boxes[k, 1]
    entry, leave = 0.0, 1e9
    for axis in range(3):
        if axis == 0:
            o, d, low, high = dx * cos + dy * sin, to_sun[0] * cos + to_sun[1] * sin, -boxes[k, 3], boxes[k, 3]
        elif axis == 1:
            o, d, low, high = dy * cos - dx * sin, to_sun[1] * cos - to_sun[0] * sin, -boxes[k, 4], boxes[k, 4]
        else:
            o, d, low, high = z, to_sun[2], boxes[k, 5], boxes[k, 6]
        if abs(d) < 1e-9:
            if o < low or o > high:
                return False
            continue
        near, far = (low - o) / d, (high - o) / d
        entry, leave = max(entry, min(near, far)), min(leave, max(near, far))
        if entry >= leave:
            return False
    return True


@njit(cache=True, error_model="numpy")
def _in_sun(boxes, axis_x, grid, corner, cells, x, y, z, to_sun):
    flat, offsets = grid
    i, j = int((x - corner[0]) / _CELL), int((y - corner[1]) / _CELL)
    if x < corner[0] or y < corner[1] or i >= cells[0] or j >= cells[1]:
        return 1.0
    cell = i * cells[1] + j
    for n in range(offsets[cell], offsets[cell + 1]):
        if _blocked(boxes, axis_x, flat[n], x, y, z, to_sun):
            return 0.0
    return 1.0


@njit(cache=True, error_model="numpy")
def _sky(dx, dy, dz, sky):
    """The sky in a direction of unit length; ``sky`` rows: zenith, horizon, (cloud share, seed, 0)."""
    height = max(dz, 0.0)
    share = 1 - math.exp(-3.5 * height)
    cover = 0.0
    if dz > 0.02:
        u, v = dx / (dz + 0.12), dy / (dz + 0.12)
        seed = int(sky[2, 1])
        form = 0.6 * noise(1.3 * u, 1.3 * v, seed) + 0.3 * noise(3.1 * u, 3.1 * v, seed + 1)
        form += 0.1 * noise(7.3 * u, 7.3 * v, seed + 2)
        cover = min(max((form - 0.75 + 0.6 * sky[2, 0]) * 4, 0.0), 1.0) * min(1.0, 6 * dz)
    white = 0.92 - 0.12 * sky[2, 0]
    share, own = share * (1 - cover), (1 - share) * (1 - cover)
    return (
        own * sky[1, 0] + share * sky[0, 0] + cover * white,
        own * sky[1, 1] + share * sky[0, 1] + cover * white,
        own * sky[1, 2] + share * sky[0, 2] + cover * white,
    )


@njit(cache=True, error_model="numpy")
def _surface(k, x, y, z, face, boxes, axis_x, material, look, colour, second, seed, body, blur):
    """Colour of a box at a world point."""
    cos, sin = axis_x[k, 0], axis_x[k, 1]
    dx, dy = x - boxes[k, 0], y - boxes[k, 1]
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    on_side = face >= 2
    width = 2 * (boxes[k, 3] if on_side else boxes[k, 4])
    along = u if on_side else v
    if look[k] == _FACADE:
        if face >= 4:
            return 0.22, 0.21, 0.2
        return wall_colour(along, z, width, boxes[k, 6], colour[k], seed[k], blur)
    if look[k] == _FOLIAGE:
        return leaf_colour(u + v if face < 4 else u, z if face < 4 else v, colour[k], seed[k], blur)
    if look[k] == _KIOSK:
        return kiosk_colour(along, z, colour[k], second[k], seed[k], blur)
    if look[k] == _PLAIN:
        return colour[k, 0], colour[k, 1], colour[k, 2]
    px, py = x - body[k, 0], y - body[k, 1]
    bx, by = px * cos + py * sin, py * cos - px * sin
    if look[k] == _PERSON:
        return person_colour(bx, z, face, body[k], colour[k], second[k])
    return vehicle_colour(
        bx, by, z, width / 2 - abs(along), face, material[k] == _GLASS, material[k] == _RUBBER,
        material[k] == _METAL, look[k] == _VAN, look[k] == _TRUCK, body[k], colour[k], second[k], blur,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _normal(face, cos, sin):
    sign = 1.0 if face % 2 else -1.0
    if face >= 4:
        return 0.0, 0.0, sign
    return (-sign * sin, sign * cos, 0.0) if face >= 2 else (sign * cos, sign * sin, 0.0)


@njit(cache=True, error_model="numpy")
def shade(
    boxes, material, look, colour, second, seed, body, ground, to_sun, sun, sky, grid, corner, cells, origin, turn, focal,
    depth, hit, face, out,
):  # fmt: skip
    """Fill out (H, W, 3) float32 with the linear light that reaches the camera.

    Args:
        boxes: (K, 8); material, look, seed (K,), colour, second (K, 3), body (K, 5): see ``appearance``.
        ground: road plan; to_sun, sun (3,); sky (3, 3): see ``_sky``.
        grid, corner, cells: result and arguments of ``shadow_grid``.
        origin, turn, focal, depth, hit, face: the camera and the result of ``trace``.
    """
    height, width = depth.shape
    axis_x = np.stack((np.cos(boxes[:, 2]), np.sin(boxes[:, 2])), axis=-1)
    for i in range(height):
        b = -(i + 0.5 - height / 2) / focal
        for j in range(width):
            a = (j + 0.5 - width / 2) / focal
            dx = turn[0, 0] + turn[0, 1] * a + turn[0, 2] * b
            dy = turn[1, 0] + turn[1, 1] * a + turn[1, 2] * b
            dz = turn[2, 0] + turn[2, 1] * a + turn[2, 2] * b
            stretch = math.sqrt(1 + a * a + b * b)
            k = hit[i, j]
            if k == NOTHING:
                out[i, j, 0], out[i, j, 1], out[i, j, 2] = _sky(dx / stretch, dy / stretch, dz / stretch, sky)
                continue
            far = depth[i, j]
            x, y, z = origin[0] + far * dx, origin[1] + far * dy, origin[2] + far * dz
            nx, ny, nz = _normal(face[i, j], axis_x[k, 0], axis_x[k, 1]) if k >= 0 else (0.0, 0.0, 1.0)
            facing = abs(nx * dx + ny * dy + nz * dz) / stretch
            blur = far * stretch / focal / max(facing, 0.05) ** 0.5
            if k == GROUND:
                r, g, bl = ground_colour(x, y, blur, ground)
            else:
                r, g, bl = _surface(
                    k, x, y, z, face[i, j], boxes, axis_x, material, look, colour, second, seed, body, blur
                )  # fmt: skip
            towards = nx * to_sun[0] + ny * to_sun[1] + nz * to_sun[2]
            lit = 0.0
            if towards > 0:
                lit = towards * _in_sun(
                    boxes, axis_x, grid, corner, cells, x + _ACNE * nx, y + _ACNE * ny, z + _ACNE * nz, to_sun
                )  # fmt: skip
            open_sky = _SKY_LIGHT * (0.62 + 0.38 * nz)
            mirror = 0.0
            if r < 0:  # a pane
                r, mirror = g, 0.12 + 0.6 * (1 - facing) ** 3
            elif k >= 0 and body[k, 4] > 0 and look[k] != _PERSON:  # lacquer
                mirror = 0.04 + 0.25 * (1 - facing) ** 4
            veil = 1 - math.exp(-far / _HAZE)
            reflected = (0.0, 0.0, 0.0)
            if mirror > 0:
                along = 2 * (nx * dx + ny * dy + nz * dz)
                reflected = _sky(
                    (dx - along * nx) / stretch, (dy - along * ny) / stretch, (dz - along * nz) / stretch, sky
                )
            for c in range(3):
                albedo = r if c == 0 else (g if c == 1 else bl)
                light = albedo * (open_sky * (sky[0, c] + sky[1, c]) + sun[c] * lit) / 1.3
                light += mirror * (reflected[c] - light)
                out[i, j, c] = light + veil * (sky[1, c] - light)
