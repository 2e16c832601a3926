import numpy as np
import pytest

from opencood.simulation.presets import PRESETS, scenario_plans
from opencood.simulation.recording import AgentView, Frame, Objects
from opencood.simulation.scenario import Scenario
from opencood.simulation.stats import ego_of, join, statistics, table, take_census


def view(agent_id: int, x: float, hits: list[int]) -> AgentView:
    body, sensor = np.array([x, 0, 0, 0.0]), np.array([x, 0, 1.9, 0.0])
    return AgentView(agent_id, body, sensor, 0.0, np.zeros((0, 4), np.float32), np.array(hits), np.zeros((0, 3)))


def hand_made_frame() -> Frame:
    """An ego (100), a helper (200), a pedestrian, a truck, and cars at 15, 45 and 90 m."""
    x = np.array([0, 30, 10, 20, 15, 45, 90, 25.0])
    half = np.tile([2.2, 0.9, 0.75], (8, 1))
    half[3] = [4, 1.2, 1.6]
    objects = Objects(
        ids=np.array([100, 200, 1, 2, 3, 4, 5, 6]),
        kinds=("suv", "suv", "pedestrian", "truck", "sedan", "sedan", "sedan", "van"),
        poses=np.column_stack([x, [0, 0, 5, 5, 5, 5, 5, 9], [0, 0, 0, 0, 0, 1.6, 0, 0]]).astype(float),
        half_sizes=half,
        speed=np.zeros(8),
        is_vehicle=np.array([True, True, False, True, True, True, True, True]),
    )
    return Frame(
        30,
        objects,
        (
            view(-1, 200.0, [9] * 8),
            view(200, 30.0, [50, 0, 9, 9, 2, 40, 9, 0]),
            view(100, 0.0, [0, 30, 9, 9, 60, 3, 0, 0]),
        ),
    )


def test_census_counts_what_agents_in_range_hit_inside_the_evaluation_range():
    census = take_census(hand_made_frame())

    # Helper, sedan at 15 m, sedan at 45 m; not: the ego, the pedestrian, the tall truck, too far, unseen.
    assert census.kinds == ("suv", "sedan", "sedan")
    assert census.ego_points.tolist() == [30, 60, 3]
    assert census.other_points.tolist() == [0, 2, 40]
    assert census.counts.tolist() == [3]


def test_figures_of_a_census():
    figures = statistics(join([take_census(hand_made_frame())] * 2))

    assert (figures.frames, figures.boxes) == (2, 6)
    assert figures.only_others_share == pytest.approx(1 / 3)
    assert figures.ego_share == pytest.approx(2 / 3)
    assert [b.near for b in figures.by_distance] == [10, 30, 40]
    assert sum(figures.headings) == 6 and figures.kinds == {"sedan": 4, "suv": 2}
    assert "33.3% of the boxes" in table(figures)


def test_the_ego_is_first_in_string_order_and_never_a_pole():
    assert ego_of([view(-1, 0, []), view(641, 0, []), view(1045, 0, [])]).agent_id == 1045


def test_collaboration_matters_on_the_default_preset():
    plans = [plan for plan in scenario_plans(PRESETS["small"], seed=0) if plan.split == "test"][::2]
    figures = statistics(join([take_census(frame) for plan in plans for frame in Scenario(plan).frames()]))

    assert figures.only_others_share >= 0.25
    shares = [b.ego_share for b in figures.by_distance if b.boxes >= 20]
    assert len(shares) >= 4 and all(near > far - 0.05 for near, far in zip(shares, shares[1:], strict=False))
    assert shares[0] > 0.9 > 0.5 > shares[-1]
    assert all(b.together_share > 0.8 for b in figures.by_distance if b.boxes >= 20)
    assert min(figures.headings) > 0
