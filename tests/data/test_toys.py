"""The toy problems: published points, seeded randomness, disjoint splits, one-line errors."""

import numpy as np
import pytest

from dist_hdnn.data import Dataset
from dist_hdnn.data.toys import TOYS, double_circles, double_moons, swiss_roll


def in_order(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Undo the alternate split: the points and labels in the generator's order."""
    samples = len(data.train_y) + len(data.test_y)
    x, y = np.empty((samples, 2)), np.empty(samples, dtype=np.int64)
    x[::2], x[1::2] = data.train_x, data.test_x
    y[::2], y[1::2] = data.train_y, data.test_y
    return x, y


def test_swiss_roll_points_are_the_published_ones():
    x, y = in_order(swiss_roll(samples=16))
    # m = 8 points an arm, theta = k pi / 2, radii k/7 and 0.2 + k/7
    assert np.allclose(x[:5], [[0, 0], [0, 1 / 7], [-2 / 7, 0], [0, -3 / 7], [4 / 7, 0]], atol=1e-15)
    assert np.allclose(x[8:11], [[0.2, 0], [0, 0.2 + 1 / 7], [-0.2 - 2 / 7, 0]], atol=1e-15)
    assert y.tolist() == [1] * 8 + [0] * 8


def test_swiss_roll_of_odd_size_drops_the_last_point_of_class_one():
    x, y = in_order(swiss_roll(samples=7))
    assert y.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert np.allclose(np.hypot(*x.T), [0, 1 / 3, 2 / 3, 0.2, 0.2 + 1 / 3, 0.2 + 2 / 3, 1.2])


def test_double_circles_are_jittered_circles_with_the_published_angles():
    x, y = in_order(double_circles(samples=4000))
    theta = 4 * 3.14 * np.arange(1000) / 1000
    centre = np.concatenate([radius * np.stack([np.cos(theta), np.sin(theta)], 1) for radius in (1, 2, 3, 4)])
    jitter = x - centre
    assert np.abs(jitter).max() <= 0.3
    assert np.abs(jitter).max() > 0.299 and abs(jitter.mean()) < 0.01  # uniform over the whole interval
    assert abs(np.corrcoef(jitter.T)[0, 1]) < 0.05  # the coordinates are jittered independently
    assert y.tolist() == [0] * 1000 + [1] * 1000 + [0] * 1000 + [1] * 1000


def test_double_moons_are_jittered_half_circles_at_the_published_places():
    x, y = in_order(double_moons(samples=400))
    theta = 3.14 * np.arange(100) / 100
    up = np.stack([np.cos(theta), np.sin(theta)], 1)
    down = np.stack([1 - np.cos(theta), 0.5 - np.sin(theta)], 1)
    right = np.array([2.0, 0.0])
    assert np.abs(x - np.concatenate([up, down, up + right, down + right])).max() <= 0.15
    assert y.tolist() == [0] * 100 + [1] * 100 + [0] * 100 + [1] * 100


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_has_4000_and_4000_points_and_is_a_function_of_its_seed(name):
    first, again, other = TOYS[name](noise=0.1), TOYS[name](noise=0.1), TOYS[name](noise=0.1, seed=1)
    assert first.train_x.shape == first.test_x.shape == (4000, 2) and first.train_x.dtype == np.float64
    assert first.train_y.dtype == np.int64 and first.classes == 2 and first.features == 2 and first.name == name
    assert np.bincount(first.train_y).tolist() == np.bincount(first.test_y).tolist() == [2000, 2000]
    assert np.array_equal(first.train_x, again.train_x) and np.array_equal(first.test_x, again.test_x)
    assert not np.array_equal(first.train_x, other.train_x)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("samples", [4, 5, 6, 7, 9])
def test_any_size_from_four_on_gives_all_its_points(name, samples):
    x, y = in_order(TOYS[name](samples=samples))
    assert x.shape == (samples, 2) and np.isfinite(x).all() and set(y) == {0, 1}


@pytest.mark.parametrize("name", TOYS)
def test_noise_moves_both_coordinates_by_its_standard_deviation(name):
    moved = in_order(TOYS[name](noise=0.05))[0] - in_order(TOYS[name]())[0]
    assert np.allclose(moved.std(axis=0), 0.05, rtol=0.05) and np.abs(moved.mean(axis=0)).max() < 0.003


def test_the_random_split_depends_on_the_seed_and_keeps_the_points():
    first, second = swiss_roll(split="random", seed=0), swiss_roll(split="random", seed=1)
    assert not np.array_equal(first.test_x, second.test_x)
    everything = [np.sort(np.concatenate([d.train_x, d.test_x])[:, 0]) for d in (first, second)]
    assert np.array_equal(*everything)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "half"}, "data split: expected one of alternate, random, last, got 'half'; set data.split"),
        ({"split": "random", "test_fraction": 1.0}, "test_fraction: expected a number above 0 and below 1, got 1.0"),
        ({"split": "random", "seed": -1}, "seed: expected an integer of at least 0 and below 18446744073709551616"),
    ],
)
def test_a_bad_option_is_a_one_line_error(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        swiss_roll(**options)
    assert "\n" not in str(caught.value)
