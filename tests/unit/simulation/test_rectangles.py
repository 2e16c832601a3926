import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon

from opencood.simulation import rectangles

RECTANGLE = st.tuples(
    st.floats(-6, 6), st.floats(-6, 6), st.floats(-7, 7), st.floats(0.2, 5), st.floats(0.2, 3)
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(RECTANGLE, RECTANGLE)
def test_overlap_agrees_with_polygons(a, b):
    a, b = np.array([a]), np.array([b])
    first, second = (Polygon(rectangles.corners(r)[0]) for r in (a, b))
    shared = first.intersection(second).area
    assume(shared == 0 or shared > 1e-9)

    assert rectangles.overlaps(a, b)[0, 0] == (shared > 0)
    assert rectangles.overlaps(b, a)[0, 0] == (shared > 0)


@settings(deadline=None, max_examples=60)
@given(RECTANGLE, st.floats(-6, 6), st.floats(-6, 6))
def test_contains_agrees_with_polygons(rectangle, x, y):
    rectangle = np.array([rectangle])
    polygon = Polygon(rectangles.corners(rectangle)[0])
    assume(polygon.boundary.distance(Point(x, y)) > 1e-9)

    assert rectangles.contains(rectangle, np.array([x, y]))[0] == polygon.contains(Point(x, y))


def test_margin_separates_neighbours():
    left, right = np.array([[0, 0, 0, 2.0, 1.0]]), np.array([[0, 2.5, 0, 2.0, 1.0]])

    assert not rectangles.overlaps(left, right).any()
    assert rectangles.overlaps(left, right, margin=0.6).any()


def test_corner_order_is_that_of_boxes():
    assert rectangles.corners(np.array([[1.0, 2.0, 0.0, 2.0, 1.0]]))[0] == pytest.approx(
        np.array([[3, 1], [3, 3], [-1, 3], [-1, 1]])
    )


def test_no_rectangles():
    nothing = np.zeros((0, 5))
    assert rectangles.overlaps(nothing, np.zeros((3, 5))).shape == (0, 3)
    assert rectangles.corners(nothing).shape == (0, 4, 2)
