"""Augmentation: small random shifts, turns and zooms of training images, anew in every step.

The change of an image is a function of (seed, step, place in the batch) alone, so all workers see the same images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from dist_hdnn.data.batches import keyed_stream
from dist_hdnn.data.checks import Image


@dataclass(frozen=True)
class Augmentation:
    """Uniformly random shifts up to `shift` pixels, turns up to `rotate` degrees and zooms by up to 1 ± `scale`.

    image: height, width, channels of the rows of pixels. background: value around an image. Bilinear interpolation.
    """

    image: Image
    background: float
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    seed: int = 0

    def __call__(self, x: Tensor, step: int) -> Tensor:
        """Change rows of pixels (batch, features)."""
        height, width, channels = self.image
        images = x.view(-1, height, width, channels).permute(0, 3, 1, 2) - self.background
        grid = affine_grid(self._maps(len(x), step).to(x), list(images.shape), align_corners=False)
        moved = grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return (moved + self.background).permute(0, 2, 3, 1).reshape(x.shape)

    def _maps(self, images: int, step: int) -> Tensor:
        """Return the map from pixels to their origins, (images, 2, 3), in units of half an image."""
        height, width, _ = self.image
        random = np.random.Generator(keyed_stream(self.seed, "augmentation", step)).random((4, images))
        right, down, turn, zoom = 2.0 * random - 1.0
        angle, size = turn * math.radians(self.rotate), 1.0 / (1.0 + zoom * self.scale)
        cosine, sine = size * np.cos(angle), size * np.sin(angle)
        rows = [
            [cosine, -sine * height / width, right * 2.0 * self.shift / width],
            [sine * width / height, cosine, down * 2.0 * self.shift / height],
        ]
        return torch.from_numpy(np.stack([np.stack(row, axis=-1) for row in rows], axis=1))
