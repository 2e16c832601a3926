import numpy as np
import pytest

from opencood.data.readers.v2xreal import class_of_entry
from opencood.simulation.bodies import (
    CLASSES,
    PARKED_MIX,
    PEDESTRIAN_SHAPES,
    TRAFFIC_MIX,
    VEHICLE_SHAPES,
    class_of,
    draw_body,
    draw_vehicle,
)
from opencood.simulation.boxes import PartTable


@pytest.mark.parametrize("kind", [*VEHICLE_SHAPES, *PEDESTRIAN_SHAPES])
def test_parts_fill_the_bounding_box_exactly(kind):
    body = draw_body(kind, np.random.default_rng(3))

    low, high = body.parts[:, [0, 2, 4]].min(axis=0), body.parts[:, [1, 3, 5]].max(axis=0)
    assert len(body.parts) >= 2
    assert (body.parts[:, [1, 3, 5]] > body.parts[:, [0, 2, 4]]).all()
    assert low == pytest.approx([-body.half_size[0], -body.half_size[1], 0])
    assert high == pytest.approx([body.half_size[0], body.half_size[1], 2 * body.half_size[2]])


def test_at_least_four_vehicle_shapes_and_mostly_cars():
    assert len(VEHICLE_SHAPES) >= 4
    assert set(TRAFFIC_MIX) | set(PARKED_MIX) <= set(VEHICLE_SHAPES)
    rng = np.random.default_rng(0)
    lengths = np.array([2 * draw_vehicle(TRAFFIC_MIX, rng).half_size[0] for _ in range(300)])
    assert (lengths <= 5.3).mean() > 0.75
    assert (lengths > 6).any()


def test_parts_are_placed_with_their_body():
    body = draw_body("truck", np.random.default_rng(0))
    boxes = PartTable.of([body, body]).placed(np.array([[10, 20, np.pi / 2], [0, 0, 0]]), np.array([True, False]))

    assert set(boxes.owner) == {0}
    cab = boxes.geometry[1]
    assert cab[0] == pytest.approx(10)
    assert cab[1] == pytest.approx(20 + body.parts[1, :2].mean())


def test_every_shape_belongs_to_a_class_of_v2x_real():
    assert {class_of(kind) for kind in VEHICLE_SHAPES} == {"vehicle", "truck"}
    assert {class_of(kind) for kind in PEDESTRIAN_SHAPES} == {"pedestrian"}
    for kind, published in {"sedan": "Car", "van": "Van", "truck": "Truck", "pedestrian": "Pedestrian"}.items():
        assert CLASSES.index(class_of(kind)) + 1 == class_of_entry({"obj_type": published})
