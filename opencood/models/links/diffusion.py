"""GenComm's generator: a feature made from a two-channel message and the ego's own view (spec gencomm.md 2.2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.links.diffusion_unet import DenoisingUNet

# The published schedule; what the YAML says about it is not read, checkpoints depend on that.
FIRST_BETA, LAST_BETA = 0.005, 0.05
LEAST_VARIANCE = 1e-20  # of the first step, which adds no noise


def schedule(steps: int) -> dict[str, Tensor]:
    """The published constants (T,) of a schedule of ``steps`` steps, by their names in the state dict."""
    beta = np.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, steps) ** 2
    alpha_bar = np.cumprod(1 - beta)
    before = np.append(1.0, alpha_bar[:-1])
    variance = beta * (1 - before) / (1 - alpha_bar)
    values = {
        "betas": beta,
        "alphas_cumprod": alpha_bar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(alpha_bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - alpha_bar),
        "log_one_minus_alphas_cumprod": np.log(1 - alpha_bar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / alpha_bar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / alpha_bar - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, LEAST_VARIANCE)),
        "posterior_mean_coef1": beta * np.sqrt(before) / (1 - alpha_bar),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - beta) / (1 - alpha_bar),
    }
    return {name: torch.from_numpy(value).float() for name, value in values.items()}


class FeatureGenerator(nn.Module):
    """Ancestral sampling of a few steps, conditioned on the message; keys are the schedule's and ``denoiser.*``.

    The network predicts the clean feature. The last step is its prediction as it is.

    Args:
        denoiser: predicts a clean feature from message and noisy feature.
        steps: T, at least 1.
    """

    betas: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    posterior_variance: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor

    def __init__(self, denoiser: DenoisingUNet, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError(f"gencomm.diffusion.num_diffusion_timesteps: at least one step is needed, not {steps}.")
        for name, values in schedule(steps).items():
            self.register_buffer(name, values)
        self.denoiser = denoiser

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)

    def forward(self, start: Tensor, message: Tensor, noise: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Generate features (N, C, h, w) at the size of the messages.

        Args:
            start: (N, C, H, W), what the sampler starts from once it is noised.
            message: (N, 2, h, w).
            noise: (number of the draw, tensor of the wanted shape) to standard normal numbers; draw T is that of the
                start, draw t the one added after step t.
        """
        last = self.steps - 1
        x = self.sqrt_alphas_cumprod[last] * start
        x = x + self.sqrt_one_minus_alphas_cumprod[last] * noise(self.steps, start)
        for step in range(last, 0, -1):
            x = _resized(x, message)
            clean = self._predict(x, message, step)
            mean = self.posterior_mean_coef1[step] * clean + self.posterior_mean_coef2[step] * x
            x = mean + self.posterior_variance[step].sqrt() * noise(step, mean)
        return self._predict(_resized(x, message), message, 0)

    def _predict(self, x: Tensor, message: Tensor, step: int) -> Tensor:
        number = torch.full((len(x),), float(step), device=x.device)
        return self.denoiser(torch.cat([message, x], dim=1), number)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
