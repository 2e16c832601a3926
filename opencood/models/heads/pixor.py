"""PIXOR's head: one class and six box numbers per cell (spec models.md 4.2)."""

from __future__ import annotations

from torch import Tensor, nn

from opencood.models.scene import SceneFeatures

LAYERS, BOX_NUMBERS = 4, 6


class PixorHead(nn.Module):
    """Four 3x3 convolutions without an activation between them, and one each for class and box.

    Keys ``conv{1..4}``, ``bn{1..4}``, ``clshead``, ``reghead``. Without ``use_bn`` the convolutions have biases.
    """

    def __init__(self, in_channels: int, use_bn: bool = True) -> None:
        super().__init__()
        for i in range(1, LAYERS + 1):
            self.add_module(f"conv{i}", nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=not use_bn))
            self.add_module(f"bn{i}", nn.BatchNorm2d(in_channels) if use_bn else nn.Identity())
        self.clshead = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.reghead = nn.Conv2d(in_channels, BOX_NUMBERS, 3, padding=1)

    def forward(self, scene: SceneFeatures) -> dict[str, Tensor]:
        """``cls`` (B, 1, H, W) logits and ``reg`` (B, 6, H, W)."""
        x = scene.map
        for i in range(1, LAYERS + 1):
            x = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x))
        return {"cls": self.clshead(x), "reg": self.reghead(x)}
