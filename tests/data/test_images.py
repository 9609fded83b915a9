"""Images as data sets, their patches, their scale, and the small changes of training images."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from dist_hdnn.build.inputs import build_augmentation
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.data import (
    Augmentation,
    Cut,
    Task,
    dataset_of,
    digits,
    even_views,
    from_arrays,
    patches,
    read_dataset,
    shape_of_grid,
    standardised,
    swiss_roll,
)


def test_the_digits_ship_with_scikit_learn_and_are_split_under_the_seed() -> None:
    data, other = digits(Cut(None, 0.25)), digits(Cut(None, 0.25, seed=1))
    assert (data.image, data.classes, len(data.train_x) + len(data.test_x)) == ((8, 8, 1), 10, 1797)
    assert len(data.test_x) == round(1797 * 0.25)
    assert not np.array_equal(data.test_x, other.test_x)
    everything = np.sort(np.concatenate([data.train_x, data.test_x]).sum(axis=1))
    assert np.array_equal(everything, np.sort(load_digits().data.sum(axis=1)))


def test_images_in_memory_and_on_disk_become_rows_of_pixels(tmp_path) -> None:
    x, y = np.arange(4 * 2 * 3 * 2, dtype=np.uint8).reshape(4, 2, 3, 2), np.array([0, 1, 0, 1])
    data = from_arrays(torch.from_numpy(x), torch.from_numpy(y), split="alternate", images=True)
    assert data.image == (2, 3, 2) and np.array_equal(data.train_x, x[::2].reshape(2, 12))
    np.savez(tmp_path / "images.npz", train_x=x[:3, ..., 0], train_y=y[:3], test_x=x[3:, ..., 0], test_y=y[3:])
    with pytest.raises(ValueError, match="test part: expected at least 2 samples"):
        read_dataset(tmp_path / "images.npz", images=True)
    np.savez(tmp_path / "images.npz", train_x=x[:2, ..., 0], train_y=y[:2], test_x=x[2:, ..., 0], test_y=y[2:])
    assert read_dataset(tmp_path / "images.npz", images=True).image == (2, 3, 1)
    with pytest.raises(ValueError, match="features in test_x as in train_x"):
        parts = {"train_x": x, "train_y": y, "test_x": x.reshape(4, 3, 2, 2), "test_y": y}
        dataset_of(parts, Task("mixed", images=True))


def test_three_dimensions_are_images_only_when_asked_for(tmp_path) -> None:
    series, labels = np.arange(24.0).reshape(4, 3, 2), [0, 1, 0, 1]  # (samples, time, sensors)
    np.savez(tmp_path / "series.npz", x=series, y=labels)
    for door in (from_arrays, lambda *_, **options: read_dataset(tmp_path / "series.npz", **options)):
        with pytest.raises(ValueError, match=r"got shape \(4, 3, 2\); for images, .* set images=true .* reshape each"):
            door(series, labels, split="random")
        assert door(series, labels, split="random", images=True).image == (3, 2, 1)
    with pytest.raises(ValueError, match=r"expected images, x of shape .* got shape \(4, 6\); reshape x, or leave"):
        from_arrays(series.reshape(4, 6), labels, split="random", images=True)


def test_images_share_one_scale_and_other_features_have_their_own() -> None:
    images = standardised(digits())
    assert abs(images.train_x.mean()) < 1e-12 and abs(images.train_x.std() - 1) < 1e-12
    assert np.ptp(images.train_x.std(axis=0)) > 0.5  # corners are darker than the middle, and stay so
    assert images.normalisation["mean"] == pytest.approx([digits().train_x.mean()])
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(5, [1, 20], (50, 2)), np.full((50, 1), 7.0)], axis=1)
    table = standardised(from_arrays(x, np.arange(50) % 2, split="random"))
    assert np.allclose(table.train_x.mean(axis=0), 0) and np.allclose(table.train_x.std(axis=0), [1, 1, 0])
    mean, deviation = (np.array(table.normalisation[key]) for key in ("mean", "deviation"))
    raw = from_arrays(x, np.arange(50) % 2, split="random")
    assert np.allclose(table.test_x * deviation + mean, raw.test_x)
    assert len(mean) == 3 and deviation[2] == 1.0


def test_an_agent_sees_its_own_patch_row_by_row() -> None:
    views = patches((4, 6, 1), 2, 3)
    assert views.patch == (2, 2, 1) and views.sizes.tolist() == [4] * 6
    image = np.arange(24).reshape(4, 6)
    for agent in range(6):
        row, column = divmod(agent, 3)
        seen = views.columns[views.starts[agent] : views.starts[agent + 1]]
        assert seen.tolist() == image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist()


def test_channels_of_a_pixel_stay_together() -> None:
    views = patches((2, 2, 3), 1, 2)
    assert views.columns[:6].tolist() == [0, 1, 2, 6, 7, 8]


def test_a_grid_that_does_not_divide_is_padded_and_says_so() -> None:
    with pytest.warns(UserWarning, match="5 x 7 pixels are padded to 6 x 8 for 2 x 2 patches of 3 x 4") as caught:
        views = patches((5, 7, 1), 2, 2)
    assert len(caught) == 1
    assert (views.columns == 35).sum() == 48 - 35 and np.array_equal(np.unique(views.columns), np.arange(36))


def test_more_agents_than_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="more agents than pixels: expected a grid of at most 8 x 8 .* got 9 x 8"):
        patches((8, 8, 1), 9, 8)


@pytest.mark.parametrize(
    ("agents", "image", "shape"),
    [(16, (28, 28, 1), (4, 4)), (12, (28, 28, 1), (3, 4)), (7, (8, 8, 1), (1, 7)), (16, (2, 28, 1), (2, 8))],
)
def test_patches_are_as_square_as_the_number_of_agents_allows(agents, image, shape) -> None:
    assert shape_of_grid(agents, image) == shape


def test_features_without_places_are_dealt_out_evenly() -> None:
    views = even_views(5, 3)
    assert views.sizes.sum() == 5 and np.ptp(views.sizes) <= 1 and views.columns.tolist() == [0, 1, 2, 3, 4]


SQUARE = torch.zeros(1, 9, 9, dtype=torch.float64)
SQUARE[0, 4, 4] = 1.0


def test_a_shift_moves_images_by_up_to_so_many_pixels_and_no_further() -> None:
    change = Augmentation((9, 9, 1), 0.0, shift=2.0)
    x = SQUARE.expand(200, 9, 9).reshape(200, 81)
    moved = change(x, step=3).view(200, 9, 9)
    rows = (moved.sum(dim=2) * torch.arange(9.0)).sum(dim=1) - 4  # the bright pixel's center of mass
    columns = (moved.sum(dim=1) * torch.arange(9.0)).sum(dim=1) - 4
    assert torch.allclose(moved.sum(dim=(1, 2)), torch.ones(200, dtype=torch.float64))
    for offsets in (rows, columns):
        assert 1.8 < offsets.abs().max() <= 2.0 + 1e-9 and offsets.abs().min() < 0.1
    assert not torch.allclose(rows, columns)


def test_a_changed_image_depends_on_seed_and_step_alone_and_keeps_its_background() -> None:
    x = SQUARE.expand(4, 9, 9).reshape(4, 81) - 0.5
    change = Augmentation((9, 9, 1), -0.5, shift=1.0, rotate=20.0, scale=0.2)
    assert torch.equal(change(x, 1), change(x, 1)) and not torch.equal(change(x, 1), change(x, 2))
    assert torch.allclose(change(torch.full_like(x, -0.5), 1), torch.full_like(x, -0.5))


def test_a_turn_keeps_the_middle_and_a_quarter_turn_moves_a_corner_to_the_next() -> None:
    image = torch.zeros(5, 7, dtype=torch.float64)
    image[2, 3] = 1.0
    change = Augmentation((5, 7, 1), 0.0, rotate=90.0)
    assert torch.allclose(change(image.view(1, 35), 1).view(5, 7)[2, 3], torch.ones((), dtype=torch.float64))


def test_only_images_can_be_changed() -> None:
    assert build_augmentation(Config(), swiss_roll()) is None
    with pytest.raises(ValueError, match="data.augment: expected images, got the data set swiss_roll"):
        build_augmentation(read_config(None, ["--data.augment.shift=1"]), swiss_roll())
