"""Data sets that ship with scikit-learn: images of digits, and tables of real samples.

scikit-learn takes a second to import, which only these data sets need.
"""

from __future__ import annotations

from dataclasses import replace

from dist_hdnn.data.arrays import Task, dataset_of
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.splits import UNSTATED, Cut


def digits(cut: Cut = UNSTATED) -> Dataset:
    """Return the 1797 images of 8 x 8 pixels (0 to 16) and 10 classes, split at random by default."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return dataset_of({"x": x.reshape(-1, 8, 8), "y": y}, Task("digits", classes=10, images=True, cut=_at_random(cut)))


def shipped_table(name: str, cut: Cut = UNSTATED) -> Dataset:
    """Return a table, "wine", "breast_cancer" or "diabetes", of real samples, split at random by default.

    wine: 13 chemical measures of 178 wines, 3 growers. breast_cancer: 30 measures of the cell nuclei of 569 samples, 2
    classes. diabetes: 10 measures of 442 patients, real target (the progression of the disease a year later).
    """
    from sklearn import datasets

    table = getattr(datasets, f"load_{name}")()
    cut, names = _at_random(cut), [str(feature) for feature in table.feature_names]
    task = Task(name, regression=True, cut=cut)
    if name != "diabetes":
        classes = tuple(map(str, table.target_names))
        task = Task(name, classes=len(classes), cut=cut, blank=Preparation(class_names=classes))
    return dataset_of({"x": table.data, "y": table.target}, task, names)


def _at_random(cut: Cut) -> Cut:
    """Return a cut, a random one where none is stated, for samples that do not depend on each other."""
    return cut if cut.split is not None else replace(cut, split="random")
