"""Light on what the pixels of a camera see: sun with shadows, sky light, mirrored sky in panes, haze (numba)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from opencood.simulation.bodies import Material
from opencood.simulation.camera.appearance import Look
from opencood.simulation.camera.shadow_kernel import ShadowGrid, in_sun
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
_SKY_LIGHT, _SURROUND = 0.42, 0.62  # light of the sky on a wall and, added on the ground, of its upper half
_HAZE = 600.0
_CLEARANCE = 2e-3  # from a surface to where its way to the sun begins


class Scene(NamedTuple):
    """What is lit.

    Attributes:
        boxes: (K, 8) as in ``boxes.Boxes.geometry``; axes (K, 2) cosine and sine of their headings; material (K,).
        look, seed, colour, second: (K,), (K,), (K, 3), (K, 3) as in ``appearance.Coats``.
        body: (K, 5) the body that each box belongs to, as in ``Appearance.coats``; zeros for the town.
        ground: the road plan, as in ``Appearance.ground``.
        to_sun, sun: (3,) direction and colour of the sun.
        sky: (3, 3) rows: colour of the zenith, of the horizon, and cloud share, seed, 0.
        grid: who may be in whose shadow.
    """

    boxes: np.ndarray
    axes: np.ndarray
    material: np.ndarray
    look: np.ndarray
    seed: np.ndarray
    colour: np.ndarray
    second: np.ndarray
    body: np.ndarray
    ground: np.ndarray
    to_sun: np.ndarray
    sun: np.ndarray
    sky: np.ndarray
    grid: ShadowGrid


@njit(cache=True, error_model="numpy")
def _sky(dx, dy, dz, sky):
    """The sky in a direction of unit length."""
    share = 1 - math.exp(-3.5 * max(dz, 0.0))
    cover = 0.0
    if dz > 0.02:
        u, v, seed = dx / (dz + 0.12), dy / (dz + 0.12), int(sky[2, 1])
        form = 0.6 * noise(1.3 * u, 1.3 * v, seed) + 0.3 * noise(3.1 * u, 3.1 * v, seed + 1)
        form += 0.1 * noise(7.3 * u, 7.3 * v, seed + 2)
        cover = min(max((form - 0.75 + 0.6 * sky[2, 0]) * 4, 0.0), 1.0) * min(1.0, 6 * dz)
    white = cover * (0.92 - 0.12 * sky[2, 0])
    high, low = share * (1 - cover), (1 - share) * (1 - cover)
    return (
        low * sky[1, 0] + high * sky[0, 0] + white,
        low * sky[1, 1] + high * sky[0, 1] + white,
        low * sky[1, 2] + high * sky[0, 2] + white,
    )


@njit(cache=True, error_model="numpy", inline="always")
def _surface(scene, k, x, y, z, face, blur):
    """Colour of box ``k`` at a world point of one of its faces."""
    boxes, look, body = scene.boxes, scene.look[k], scene.body
    cos, sin = scene.axes[k, 0], scene.axes[k, 1]
    dx, dy = x - boxes[k, 0], y - boxes[k, 1]
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    along, half_width = (u, boxes[k, 3]) if face >= 2 else (v, boxes[k, 4])
    if look == _PLAIN:
        return scene.colour[k, 0], scene.colour[k, 1], scene.colour[k, 2]
    if look == _FACADE:
        if face >= 4:
            return 0.22, 0.21, 0.2
        return wall_colour(along, z, 2 * half_width, boxes[k, 6], scene.colour[k], scene.seed[k], blur)
    if look == _FOLIAGE:
        return leaf_colour(u + v if face < 4 else u, z if face < 4 else v, scene.colour[k], scene.seed[k], blur)
    if look == _KIOSK:
        return kiosk_colour(along, z, scene.colour[k], scene.second[k], scene.seed[k])
    if look == _PERSON:
        return person_colour(z, face, body[k], scene.colour[k], scene.second[k])
    dx, dy = x - body[k, 0], y - body[k, 1]
    material = scene.material[k]
    return vehicle_colour(
        dx * cos + dy * sin, dy * cos - dx * sin, z, half_width - abs(along), face, material == _GLASS,
        material == _RUBBER, material == _METAL, look == _VAN, look == _TRUCK, body[k], scene.colour[k],
        scene.second[k], blur,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _normal(face, cos, sin):
    sign = 1.0 if face % 2 else -1.0
    if face >= 4:
        return 0.0, 0.0, sign
    return (-sign * sin, sign * cos, 0.0) if face >= 2 else (sign * cos, sign * sin, 0.0)


@njit(cache=True, error_model="numpy", inline="always")
def _mirrored(scene, k, pane, facing):
    """Share of the light that a surface mirrors: much by panes, some by lacquer."""
    if pane:
        return 0.12 + 0.6 * (1 - facing) ** 3
    if k >= 0 and scene.body[k, 4] > 0 and scene.look[k] != _PERSON:
        return 0.04 + 0.25 * (1 - facing) ** 4
    return 0.0


@njit(cache=True, error_model="numpy", inline="always")
def _point_light(scene, k, x, y, z, face, dx, dy, dz, blur):
    """Light (3 numbers) from a point of box ``k`` (or the ground) towards where the ray (dx, dy, dz; unit) comes from.

    ``blur`` is the size of a pixel there, seen straight.
    """
    nx, ny, nz = _normal(face, scene.axes[k, 0], scene.axes[k, 1]) if k >= 0 else (0.0, 0.0, 1.0)
    towards_eye = -(nx * dx + ny * dy + nz * dz)
    facing = abs(towards_eye)
    blur /= max(facing, 0.05) ** 0.5
    r, g, b = ground_colour(x, y, blur, scene.ground) if k == GROUND else _surface(scene, k, x, y, z, face, blur)
    pane = r < 0
    r = g if pane else r
    sun = max(nx * scene.to_sun[0] + ny * scene.to_sun[1] + nz * scene.to_sun[2], 0.0)
    if sun > 0:
        x, y, z = x + _CLEARANCE * nx, y + _CLEARANCE * ny, z + _CLEARANCE * nz
        sun *= in_sun(scene.boxes, scene.axes, scene.grid, x, y, z, scene.to_sun)
    sky = _SKY_LIGHT * (_SURROUND + (1 - _SURROUND) * nz)
    r *= sky * (scene.sky[0, 0] + scene.sky[1, 0]) + 0.77 * scene.sun[0] * sun
    g *= sky * (scene.sky[0, 1] + scene.sky[1, 1]) + 0.77 * scene.sun[1] * sun
    b *= sky * (scene.sky[0, 2] + scene.sky[1, 2]) + 0.77 * scene.sun[2] * sun
    mirror = _mirrored(scene, k, pane, facing)
    if mirror > 0:
        turn = 2 * towards_eye
        mr, mg, mb = _sky(dx + turn * nx, dy + turn * ny, dz + turn * nz, scene.sky)
        r, g, b = r + mirror * (mr - r), g + mirror * (mg - g), b + mirror * (mb - b)
    return r, g, b


@njit(cache=True, error_model="numpy")
def shade(scene, origin, turn, focal, depth, hit, face, out):
    """Fill out (H, W, 3) float32 with the linear light that reaches a camera.

    Args:
        scene: a ``Scene``.
        origin, turn, focal: position (3,) and rotation (3, 3) of the camera in the world, pixels.
        depth, hit, face: (H, W) the result of ``trace``.
    """
    height, width = depth.shape
    for i in range(height):
        b = -(i + 0.5 - height / 2) / focal
        for j in range(width):
            a = (j + 0.5 - width / 2) / focal
            stretch = math.sqrt(1 + a * a + b * b)
            dx = (turn[0, 0] + turn[0, 1] * a + turn[0, 2] * b) / stretch
            dy = (turn[1, 0] + turn[1, 1] * a + turn[1, 2] * b) / stretch
            dz = (turn[2, 0] + turn[2, 1] * a + turn[2, 2] * b) / stretch
            if hit[i, j] == NOTHING:
                out[i, j, 0], out[i, j, 1], out[i, j, 2] = _sky(dx, dy, dz, scene.sky)
                continue
            far = depth[i, j] * stretch
            light = _point_light(
                scene, hit[i, j], origin[0] + far * dx, origin[1] + far * dy, origin[2] + far * dz, face[i, j],
                dx, dy, dz, far / focal,
            )  # fmt: skip
            veil = 1 - math.exp(-far / _HAZE)
            out[i, j, 0] = light[0] + veil * (scene.sky[1, 0] - light[0])
            out[i, j, 1] = light[1] + veil * (scene.sky[1, 1] - light[1])
            out[i, j, 2] = light[2] + veil * (scene.sky[1, 2] - light[2])
