"""What each pixel of a pinhole camera sees first: upright boxes, the ground or the sky (numba).

A box is tried only by the pixels of the rectangle that it covers in the picture, nearest boxes first.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from opencood.simulation.ray_kernel import GROUND, NOTHING

NEAR = 0.05
_FAR = 1e30
_TINY = 1e-12
# Faces of a box: -x, +x, -y, +y, bottom, top.
TOP = 5


@njit(cache=True, error_model="numpy")
def _corners(box, origin, turn, corner):
    """Corners (8, 3) of a box as forward, right, up of the camera; bit k of the number is the side along axis k."""
    cos, sin = math.cos(box[2]), math.sin(box[2])
    for i in range(8):
        u = box[3] if i & 1 else -box[3]
        v = box[4] if i & 2 else -box[4]
        x, y = box[0] + u * cos - v * sin - origin[0], box[1] + u * sin + v * cos - origin[1]
        z = (box[6] if i & 4 else box[5]) - origin[2]
        for k in range(3):
            corner[i, k] = turn[0, k] * x + turn[1, k] * y + turn[2, k] * z


@njit(cache=True, error_model="numpy")
def _covered(corner, focal, width, height, span):
    """Pixels ``span`` = first column, stop, first row, stop that a box may cover; its smallest forward coordinate."""
    low_u, high_u, low_v, high_v, nearest = _FAR, -_FAR, _FAR, -_FAR, _FAR
    for i in range(8):
        for k in range(3):
            j = i ^ (1 << k)
            if j < i or (corner[i, 0] < NEAR and corner[j, 0] < NEAR):
                continue
            for end in range(2):
                a, b = (i, j) if end == 0 else (j, i)
                share = 0.0
                if corner[a, 0] < NEAR:
                    share = (NEAR - corner[a, 0]) / (corner[b, 0] - corner[a, 0])
                forward = max(corner[a, 0] + share * (corner[b, 0] - corner[a, 0]), NEAR)
                u = width / 2 + focal * (corner[a, 1] + share * (corner[b, 1] - corner[a, 1])) / forward
                v = height / 2 - focal * (corner[a, 2] + share * (corner[b, 2] - corner[a, 2])) / forward
                low_u, high_u = min(low_u, u), max(high_u, u)
                low_v, high_v = min(low_v, v), max(high_v, v)
                nearest = min(nearest, forward)
    span[0] = int(min(max(math.floor(low_u - 0.5), 0.0), width))
    span[1] = int(min(max(math.ceil(high_u + 0.5), 0.0), width))
    span[2] = int(min(max(math.floor(low_v - 0.5), 0.0), height))
    span[3] = int(min(max(math.ceil(high_v + 0.5), 0.0), height))
    return nearest


@njit(cache=True, error_model="numpy")
def _enter(o, d, low, high):
    """Parameter at which a ray enters a box from outside and the face it enters by; -1 where it misses."""
    entry, leave, face = NEAR, _FAR, -1
    for axis in range(3):
        if abs(d[axis]) < _TINY:
            if o[axis] < low[axis] or o[axis] > high[axis]:
                return -1.0, -1
            continue
        inverse = 1.0 / d[axis]
        near, far = (low[axis] - o[axis]) * inverse, (high[axis] - o[axis]) * inverse
        side = 2 * axis
        if near > far:
            near, far = far, near
            side += 1
        if near > entry:
            entry, face = near, side
        leave = min(leave, far)
    return (entry, face) if face >= 0 and entry <= leave else (-1.0, -1)


@njit(cache=True, error_model="numpy")
def trace(boxes, skip, order, origin, turn, focal, depth, hit, face):
    """Fill depth (H, W; along the optical axis, infinite for the sky), hit (box, GROUND, NOTHING) and face (H, W).

    Args:
        boxes: (K, 7+) as in ``boxes.Boxes.geometry``; ``skip`` (K,) bool leaves some out.
        order: (K,) boxes in the order in which they are tried; nearest first is fastest.
        origin, turn: position (3,) and rotation (3, 3) of the camera in the world.
        focal: pixels.
    """
    height, width = depth.shape
    for i in range(height):
        b = -(i + 0.5 - height / 2) / focal
        for j in range(width):
            fall = turn[2, 0] + turn[2, 1] * (j + 0.5 - width / 2) / focal + turn[2, 2] * b
            reached = fall < -_TINY
            depth[i, j] = -origin[2] / fall if reached else np.inf
            hit[i, j] = GROUND if reached else NOTHING
            face[i, j] = TOP
    corner, span = np.empty((8, 3)), np.empty(4, np.int64)
    axes, o, d, low, high = np.empty((3, 3)), np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for k in order:
        if skip[k]:
            continue
        box = boxes[k]
        _corners(box, origin, turn, corner)
        nearest = _covered(corner, focal, width, height, span)
        if span[0] >= span[1] or span[2] >= span[3]:
            continue
        cos, sin = math.cos(box[2]), math.sin(box[2])
        dx, dy = origin[0] - box[0], origin[1] - box[1]
        o[0], o[1], o[2] = dx * cos + dy * sin, dy * cos - dx * sin, origin[2]
        low[0], low[1], low[2], high[0], high[1], high[2] = -box[3], -box[4], box[5], box[3], box[4], box[6]
        for c in range(3):
            axes[0, c] = turn[0, c] * cos + turn[1, c] * sin
            axes[1, c] = turn[1, c] * cos - turn[0, c] * sin
            axes[2, c] = turn[2, c]
        for i in range(span[2], span[3]):
            b = -(i + 0.5 - height / 2) / focal
            for j in range(span[0], span[1]):
                if depth[i, j] <= nearest:
                    continue
                a = (j + 0.5 - width / 2) / focal
                for c in range(3):
                    d[c] = axes[c, 0] + axes[c, 1] * a + axes[c, 2] * b
                entry, side = _enter(o, d, low, high)
                if side >= 0 and entry < depth[i, j]:
                    depth[i, j], hit[i, j], face[i, j] = entry, k, side
