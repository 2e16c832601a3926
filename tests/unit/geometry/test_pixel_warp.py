"""The warp in pixels, against its definition cell by cell."""

import math

import numpy as np
import pytest
import torch

from opencood.geometry.warp import pixel_sampling, warp

HEIGHT, WIDTH, CELL = 6, 9, 0.8


def matrix(x, y, degrees):
    turn = math.radians(degrees)
    result = torch.eye(4, dtype=torch.float64)
    result[:2, :2] = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    result[:2, 3] = torch.tensor([x, y])
    return result


def cell_by_cell(image, transform, about_centre):
    """output(q) = source(R^-1 (q - c - t) + c), bilinear, zero outside."""
    centre = np.array([WIDTH / 2, HEIGHT / 2]) if about_centre else np.zeros(2)
    turn, shift = transform[:2, :2].numpy(), transform[:2, 3].numpy() / CELL
    result = np.zeros_like(image)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            x, y = np.linalg.inv(turn) @ (np.array([column, row]) - centre - shift) + centre
            left, top = math.floor(x), math.floor(y)
            for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= r < HEIGHT and 0 <= c < WIDTH:
                    result[row, column] += image[r, c] * (1 - abs(x - c)) * (1 - abs(y - r))
    return result


@pytest.mark.parametrize("about_centre", [True, False])
@pytest.mark.parametrize("pose", [(0, 0, 0), (1.3, -0.7, 0), (0, 0, 90), (-1, 0.5, 33)])
def test_cells_come_from_where_the_matrix_says(pose, about_centre):
    image, transform = torch.rand(HEIGHT, WIDTH, dtype=torch.float64), matrix(*pose)
    theta = pixel_sampling(transform[None], CELL, (HEIGHT, WIDTH), about_centre)
    moved = warp(image[None, None], theta, align_corners=True)[0, 0]
    assert np.allclose(moved, cell_by_cell(image.numpy(), transform, about_centre), atol=1e-9)


def test_matrices_keep_their_shape():
    theta = pixel_sampling(torch.eye(4).expand(2, 3, 3, 4, 4), CELL, (HEIGHT, WIDTH))
    assert theta.shape == (2, 3, 3, 2, 3)
    assert torch.allclose(theta, torch.eye(2, 3).expand(2, 3, 3, 2, 3), atol=1e-6)
