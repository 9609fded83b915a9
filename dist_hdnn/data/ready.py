"""Ready data sets: the images and tables that ship with scikit-learn, MNIST and Fashion-MNIST, IDX files of one's own.

An image is a row of height x width x channels pixels, row by row, the channels of a pixel together; `Dataset.image`
holds the three sizes. Pixels stay as they come (float32) until `standardised` shifts and scales them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dist_hdnn.data.checks import from_arrays, from_parts
from dist_hdnn.data.idx import PARTS, find_idx, read_idx
from dist_hdnn.data.published import published_arrays
from dist_hdnn.data.toys import Dataset

PUBLISHED = ("mnist", "fashion_mnist")
TABLES = ("wine", "breast_cancer", "diabetes")


def digits(split: str = "random", test_fraction: float = 0.25, seed: int = 0) -> Dataset:
    """The 1797 images of 8 x 8 pixels (0 to 16) and 10 classes that ship with scikit-learn, split here."""
    from sklearn.datasets import load_digits  # a second of import that only this data set needs

    x, y = load_digits(return_X_y=True)
    return from_arrays(x.reshape(-1, 8, 8), y, 10, "digits", None, split, test_fraction, seed)


def shipped_table(name: str, split: str = "random", test_fraction: float = 0.25, seed: int = 0) -> Dataset:
    """One of TABLES, measured on real samples, as it ships with scikit-learn, split here.

    wine: 13 chemical measures of 178 wines, 3 growers. breast_cancer: 30 measures of the cell nuclei of 569 samples, 2
    classes. diabetes: 10 measures of 442 patients, real target (the progression of the disease a year later).
    """
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    regression = name == "diabetes"
    classes = None if regression else len(bunch.target_names)
    names = [str(feature) for feature in bunch.feature_names]
    data = from_arrays(bunch.data, bunch.target, classes, name, names, split, test_fraction, seed, regression)
    return data if regression else replace(data, class_names=tuple(map(str, bunch.target_names)))


def published(name: str, folder: Path | None = None, download: bool = False) -> Dataset:
    """MNIST ("mnist") or Fashion-MNIST ("fashion_mnist") with their own split, 60 000 + 10 000 images of 28 x 28."""
    return from_parts(name, published_arrays(name, folder, download), 10)


def idx_folder(folder: Path, classes: int | None = None) -> Dataset:
    """The data set in a folder of four IDX files named as those of MNIST, plain or gzipped."""
    arrays = {}
    for part, name in PARTS.items():
        path = find_idx(folder, part)
        if path is None:
            found = "no such folder" if not folder.is_dir() else "a folder without it"
            raise ValueError(f"data.folder: expected {name} or {name}.gz in {folder}, got {found}; correct data.folder")
        arrays[part] = read_idx(path)
    return from_parts(folder.name, arrays, classes, f"data.folder {folder}")
