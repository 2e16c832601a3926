"""The tensor twin of ``iou.bev_iou``: any device, any leading batch axes, no loop."""

from __future__ import annotations

import torch

from opencood.geometry.boxes import bev_corners, standup_boxes

_NO_AREA = 1e-12
_TOUCHING = 1e-9  # metres squared: how far outside an edge (cross product) a vertex still counts as inside


def bev_iou_torch(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the (..., N, M) float32 IoU of footprints, computed in double precision.

    Args:
        first: (..., N, 8, 3) corners or (..., N, 4, 2) convex polygons of either turning direction.
        second: (..., M, 8, 3) or (..., M, 4, 2); the leading axes broadcast.
    """
    a, b = bev_corners(first).double().unsqueeze(-3), bev_corners(second).double().unsqueeze(-4)
    a_bounds, b_bounds = standup_boxes(a), standup_boxes(b)
    near = (
        (a_bounds[..., :2] < b_bounds[..., 2:]).all(dim=-1)
        & (b_bounds[..., :2] < a_bounds[..., 2:]).all(dim=-1)
        & (polygon_areas(a) > _NO_AREA)
        & (polygon_areas(b) > _NO_AREA)
    )
    result = torch.zeros(near.shape, dtype=torch.float32, device=near.device)
    shape = (*near.shape, 4, 2)
    p, q = a.expand(shape)[near], b.expand(shape)[near]
    common = overlap_areas(p, q)
    result[near] = (common / (polygon_areas(p) + polygon_areas(q) - common)).float()
    return result


def paired_iou_3d(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the (P,) IoU of volumes of pairs of upright boxes, given by their corners (P, 8, 3), in double precision.

    A pair without a common footprint has 0.
    """
    p, q = first.double(), second.double()
    p_area, q_area = polygon_areas(bev_corners(p)), polygon_areas(bev_corners(q))
    solid = (p_area > _NO_AREA) & (q_area > _NO_AREA)
    common = torch.zeros_like(p_area)
    common[solid] = overlap_areas(bev_corners(p)[solid], bev_corners(q)[solid])
    (p_low, p_high), (q_low, q_high) = p[..., 2].aminmax(dim=1), q[..., 2].aminmax(dim=1)
    shared = common * (torch.minimum(p_high, q_high) - torch.maximum(p_low, q_low)).clamp(min=0)
    joined = p_area * (p_high - p_low) + q_area * (q_high - q_low) - shared
    return shared / joined.clamp(min=_NO_AREA)


def overlap_areas(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the (P,) common areas of pairs of convex quadrilaterals (P, 4, 2) that have an area.

    The common polygon is spanned by the vertices of each inside the other and the crossings of their edges; sorted by
    angle around their mean they give the area by the shoelace formula. Doubled points add nothing.
    """
    origin = first[:, :1]
    p, q = _counter_clockwise(first - origin), _counter_clockwise(second - origin)
    crossings, crossing = _edge_crossings(p, q)
    points = torch.cat([p, q, crossings], dim=1)  # (P, 24, 2)
    valid = torch.cat([_inside(p, q), _inside(q, p), crossing], dim=1)

    weights = valid.to(points.dtype).unsqueeze(-1)
    centred = points - (points * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True).clamp(min=1)
    angles = torch.atan2(centred[..., 1], centred[..., 0]).masked_fill(~valid, torch.inf)
    order = angles.argsort(dim=1)
    ring = centred.gather(1, order.unsqueeze(-1).expand_as(centred))
    # What is not a vertex collapses onto the first vertex, where it spans no area.
    ring = torch.where(valid.gather(1, order).unsqueeze(-1), ring, ring[:, :1])
    return torch.where(valid.sum(dim=1) >= 3, polygon_areas(ring), 0.0)


def polygon_areas(polygons: torch.Tensor) -> torch.Tensor:
    """Return the (...) areas of simple polygons (..., K, 2)."""
    return _doubled_area(polygons - polygons[..., :1, :]).abs() / 2


def _doubled_area(polygons: torch.Tensor) -> torch.Tensor:
    return _cross(polygons, polygons.roll(-1, dims=-2)).sum(dim=-1)


def _cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _counter_clockwise(polygons: torch.Tensor) -> torch.Tensor:
    clockwise = _doubled_area(polygons - polygons[:, :1]) < 0
    return torch.where(clockwise[:, None, None], polygons.flip(1), polygons)


def _inside(points: torch.Tensor, polygons: torch.Tensor) -> torch.Tensor:
    """(P, 4) True for each point in its counter-clockwise polygon, border included."""
    edges = polygons.roll(-1, dims=1) - polygons
    sides = _cross(edges[:, None], points[:, :, None] - polygons[:, None])
    return (sides >= -_TOUCHING).all(dim=-1)


def _edge_crossings(p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, 16, 2) crossing of every edge of p with every edge of q, and (P, 16) whether it lies on both."""
    start, along = p[:, :, None], (p.roll(-1, dims=1) - p)[:, :, None]
    other_start, other_along = q[:, None], (q.roll(-1, dims=1) - q)[:, None]
    turn = _cross(along, other_along)
    between = other_start - start
    parallel = turn == 0
    divisor = torch.where(parallel, torch.ones_like(turn), turn)
    t, u = _cross(between, other_along) / divisor, _cross(between, along) / divisor
    on_both = ~parallel & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    return (start + t.unsqueeze(-1) * along).flatten(1, 2), on_both.flatten(1)
