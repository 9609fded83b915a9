"""Ready data sets: the images and tables that ship with scikit-learn, MNIST and Fashion-MNIST, IDX files of one's own.

An image is a row of height x width x channels pixels, row by row, the channels of a pixel together; `Dataset.image`
holds the three sizes. Pixels stay as they come (float32) until `standardised` shifts and scales them.
"""

from __future__ import annotations

from pathlib import Path

from dist_hdnn.data.arrays import cut_arrays, from_parts
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.idx import PARTS, find_idx, read_idx
from dist_hdnn.data.readers.published import published_arrays
from dist_hdnn.data.splits import UNSTATED, Cut, at_random

PUBLISHED = ("mnist", "fashion_mnist")
TABLES = ("wine", "breast_cancer", "diabetes")


def digits(cut: Cut = UNSTATED) -> Dataset:
    """The 1797 images of 8 x 8 pixels (0 to 16) and 10 classes that ship with scikit-learn; by default at random."""
    from sklearn.datasets import load_digits  # a second of import that only this data set needs

    x, y = load_digits(return_X_y=True)
    return cut_arrays(x.reshape(-1, 8, 8), y, at_random(cut), 10, "digits", images=True)


def shipped_table(name: str, cut: Cut = UNSTATED) -> Dataset:
    """One of TABLES, measured on real samples, as it ships with scikit-learn, split at random by default.

    wine: 13 chemical measures of 178 wines, 3 growers. breast_cancer: 30 measures of the cell nuclei of 569 samples, 2
    classes. diabetes: 10 measures of 442 patients, real target (the progression of the disease a year later).
    """
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    regression = name == "diabetes"
    classes = None if regression else len(bunch.target_names)
    names = [str(feature) for feature in bunch.feature_names]
    blank = Preparation(class_names=None if regression else tuple(map(str, bunch.target_names)))
    return cut_arrays(bunch.data, bunch.target, at_random(cut), classes, name, names, regression, blank=blank)


def published(name: str, folder: Path | None = None, download: bool = False, cut: Cut = UNSTATED) -> Dataset:
    """MNIST ("mnist") or Fashion-MNIST ("fashion_mnist") with their own split, 60 000 + 10 000 images of 28 x 28."""
    return from_parts(name, published_arrays(name, folder, download), 10, cut=cut, images=True)


def idx_folder(folder: Path, classes: int | None = None, cut: Cut = UNSTATED) -> Dataset:
    """The data set in a folder of four IDX files named as those of MNIST, plain or gzipped."""
    arrays = {}
    for part, name in PARTS.items():
        path = find_idx(folder, part)
        if path is None:
            found = "no such folder" if not folder.is_dir() else "a folder without it"
            raise ValueError(f"data.folder: expected {name} or {name}.gz in {folder}, got {found}; correct data.folder")
        arrays[part] = read_idx(path)
    return from_parts(folder.name, arrays, classes, f"data.folder {folder}", cut=cut, images=True)
