"""Two-dimensional classification problems of the H-DNN papers: swiss roll, double circles, double moons.

Points: x (n, 2) float64, labels y (n,) int64. The formulas are those of the published code, DecodEPFL/HamiltonianNet
(data/datasets.py at commit 288ffbef7e454f7d4f8f4e8cb7ba33bca6e50bae), derived anew. We keep its quirks:

- Double circles and double moons sweep their angles with 3.14 in place of pi. So the two turns of a circle are 0.2
  degrees out of step and a moon ends 0.1 degrees early. With pi the curves would close and nothing else would change.
- The swiss roll has no noise of its own, so with noise=0 its test points lie on the curves of its training points.

Where the published points are random (the jitter of circles and moons), ours have the same distribution under `seed`.

Split "alternate": in the order below, even positions train and odd positions test (4000 + 4000 by default). The
published code shuffles first, so it trains on a random half: split="random" with test_fraction=0.5 is that, seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dist_hdnn.data.arrays import Task, dataset_of
from dist_hdnn.data.batches import keyed_stream
from dist_hdnn.data.checks import Floats, Integers
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.splits import Cut

PUBLISHED_PI = 3.14


def swiss_roll_points(samples: int, seed: int) -> tuple[Floats, Integers]:
    """Two interleaved spiral arms of two turns each.

    With m = ceil(samples / 2) points k = 0 .. m - 1 an arm and theta = 4 pi k / m: class 1 at radius k / (m - 1),
    class 0 at radius 0.2 + k / (m - 1). An odd number of samples drops the last point of class 1, as published.
    """
    per_arm = math.ceil(samples / 2)
    theta = 4.0 * math.pi * np.arange(per_arm) / per_arm
    radius = np.linspace(0.0, 1.0, per_arm)
    circle = np.stack([np.cos(theta), np.sin(theta)], axis=1)  # (m, 2)
    first = (radius[:, None] * circle)[: samples // 2]
    second = (radius + 0.2)[:, None] * circle
    return np.concatenate([first, second]), np.repeat(np.array([1, 0]), [len(first), len(second)])


def double_circles_points(samples: int, seed: int) -> tuple[Floats, Integers]:
    """Four concentric noisy circles of radius 1, 2, 3, 4 with classes 0, 1, 0, 1.

    Point i of the n on one circle: radius (cos theta, sin theta) + 0.6 (u - 1/2), theta = 4 * 3.14 i / n, u uniform in
    [0, 1) for each coordinate. Circle c has samples // 4 points, one more for the first samples % 4 circles (the
    published code leaves those points at the origin).
    """
    counts = _quarters(samples)
    circles = []
    for radius, count in enumerate(counts, start=1):
        theta = 4.0 * PUBLISHED_PI * np.arange(count) / count
        circles.append(radius * np.stack([np.cos(theta), np.sin(theta)], axis=1))
    return np.concatenate(circles) + _jitter(samples, 0.6, seed, "double circles"), _alternating_classes(counts)


def double_moons_points(samples: int, seed: int) -> tuple[Floats, Integers]:
    """Two pairs of interlocking noisy half circles with classes 0, 1, 0, 1, the second pair 2 further right.

    Point i of the n on one moon, theta = 3.14 i / n, plus 0.3 (u - 1/2) with u uniform in [0, 1) for each coordinate:
    class 0 at (cos theta, sin theta), class 1 at (1 - cos theta, 1/2 - sin theta).
    Samples that 4 does not divide: as for the circles.
    """
    counts = _quarters(samples)
    moons = []
    for moon, count in enumerate(counts):
        theta = PUBLISHED_PI * np.arange(count) / count
        shift = 2.0 * (moon // 2)
        if moon % 2 == 0:
            moons.append(np.stack([shift + np.cos(theta), np.sin(theta)], axis=1))
        else:
            moons.append(np.stack([shift + 1.0 - np.cos(theta), 0.5 - np.sin(theta)], axis=1))
    return np.concatenate(moons) + _jitter(samples, 0.3, seed, "double moons"), _alternating_classes(counts)


def _toy(name: str, points: Callable[[int, int], tuple[Floats, Integers]]) -> Callable[..., Dataset]:
    """Return the data set of a generator of (samples, seed) -> x, y in a fixed order, with noise and a split."""

    def toy(
        samples: int = 8000,
        noise: float = 0.0,
        split: str = "alternate",
        test_fraction: float = 0.5,
        seed: int = 0,
        validation_fraction: float = 0.0,
    ) -> Dataset:
        cut = Cut(split, test_fraction, seed, validation_fraction)
        x, y = points(samples, seed)
        if noise > 0.0:
            generator = np.random.Generator(keyed_stream(cut.seed, f"noise of {name}"))
            x = x + noise * generator.standard_normal(x.shape)
        return dataset_of({"x": x, "y": y}, Task(name, classes=2, cut=cut))

    toy.__doc__ = f"""{points.__doc__}
    samples: at least 4. noise: standard deviation of the Gaussian noise added to both coordinates, in coordinate units.
    The other arguments and their errors: see `Cut`.
    """
    return toy


swiss_roll = _toy("swiss_roll", swiss_roll_points)
double_circles = _toy("double_circles", double_circles_points)
double_moons = _toy("double_moons", double_moons_points)
TOYS = {"swiss_roll": swiss_roll, "double_circles": double_circles, "double_moons": double_moons}


def _quarters(samples: int) -> list[int]:
    return [samples // 4 + (quarter < samples % 4) for quarter in range(4)]


def _alternating_classes(counts: list[int]) -> Integers:
    return np.repeat(np.array([0, 1, 0, 1], dtype=np.int64), counts)


def _jitter(samples: int, size: float, seed: int, name: str) -> Floats:
    uniform = np.random.Generator(keyed_stream(seed, f"jitter of {name}")).random((samples, 2))
    return size * (uniform - 0.5)
