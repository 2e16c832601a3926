"""Pictures: drawn without a display, whatever is missing; colours and orientation as published."""

import numpy as np
import pytest
from PIL import Image

from opencood.errors import StorageError
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.visualization.bev import draw_bev, draw_comparison
from opencood.visualization.charts import draw_ap_bars
from opencood.visualization.scene import AgentMark, BevScene, extent_of
from opencood.visualization.style import modality_color

EXTENT = extent_of([-51.2, -25.6, -3, 51.2, 25.6, 1])
NO_BOXES = np.zeros((0, 8, 3), np.float32)


def car(x: float, y: float, yaw: float = 0.0) -> np.ndarray:
    return boxes_to_corners_3d(np.array([[x, y, -1, 1.6, 2.0, 4.6, yaw]], np.float32), "hwl")


def scene(**changes) -> BevScene:
    generator = np.random.default_rng(0)
    values = {
        "extent": EXTENT,
        "points": generator.uniform([-60, -30, -2], [60, 30, 1], (500, 3)),
        "predictions": np.concatenate([car(10, 5), car(-20, -5)]),
        "scores": np.array([0.9, 0.4]),
        "ground_truth": np.concatenate([car(10, 5), car(30, 10)]),
        "agents": (AgentMark("ego", 0, 0, modality="m1"), AgentMark("641", 20, 5, 1.0, "m2"), AgentMark("far", 900, 0)),
    }
    return BevScene(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"predictions": NO_BOXES, "scores": np.zeros(0)},
        {"ground_truth": NO_BOXES},
        {"predictions": NO_BOXES, "scores": None, "ground_truth": NO_BOXES, "points": np.zeros((0, 3)), "agents": ()},
        {"scores": None, "left_hand": True},
        {"point_agents": np.arange(500) % 3},
    ],
    ids=["whole", "no predictions", "no ground truth", "nothing", "no scores", "points by agent"],
)
def test_a_picture_is_drawn(tmp_path, changes):
    path = draw_bev(scene(**changes), tmp_path / "vis" / "bev_00000.png")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert min(picture.shape[:2]) > 500
    assert picture.std() > 5
    assert [file.name for file in path.parent.iterdir()] == ["bev_00000.png"]


def test_left_hand_mirrors_y(tmp_path):
    """A car at y = +15 appears above the middle in a right-handed picture, below in a left-handed one."""

    def green_rows(left_hand: bool) -> float:
        shown = scene(
            predictions=NO_BOXES,
            scores=None,
            ground_truth=car(0, 15),
            points=np.zeros((0, 3)),
            agents=(),
            left_hand=left_hand,
        )
        picture = np.asarray(Image.open(draw_bev(shown, tmp_path / "one.png")).convert("RGB")).astype(int)
        bright = (picture[..., 0] > 200) & (picture[..., 1] > 170) & (picture[..., 2] < 120)
        rows = np.nonzero(bright[: int(picture.shape[0] * 0.88)])[0]
        return rows.mean() / picture.shape[0]

    assert green_rows(False) < 0.5 < green_rows(True)


def test_found_uses_bev_overlap():
    assert scene().found().tolist() == [True, False]
    assert scene(predictions=NO_BOXES).found().tolist() == [False, False]


def test_published_colours():
    assert modality_color("m1") == (0, 191 / 255, 1.0)
    assert modality_color("m9") == modality_color("")


def test_comparison_and_bars(tmp_path):
    two = [scene(title="No fusion", predictions=NO_BOXES, scores=None), scene(title="Intermediate")]
    stacked = Image.open(draw_comparison(two, tmp_path / "both.png", "Alone and together"))
    single = Image.open(draw_bev(two[0], tmp_path / "one.png"))
    assert stacked.height > stacked.width
    assert single.height < single.width
    square = [scene(extent=(-40, -40, 40, 40))] * 2
    assert Image.open(draw_comparison(square, tmp_path / "side.png")).width > 1800
    bars = draw_ap_bars(
        [("no", {0.3: 0.1, 0.5: float("nan")}), ("late", {0.3: 0.4})], tmp_path / "bars.png", ["0", "1"], "AP"
    )
    assert Image.open(bars).width > 300


def test_an_unwritable_picture_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="bev.png"):
        draw_bev(scene(), tmp_path / "file" / "bev.png")
