"""Shift and scale of the features, from the training points alone, and recorded in the data set.

Images share one mean and one deviation, so that differences between pixels keep their size; other features have their
own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist_hdnn.data.dataset import Dataset


def standardised(data: Dataset) -> Dataset:
    """The same data with training features of mean 0 and deviation 1: (x - mean) / deviation for every part.

    A feature that is constant over the training points is shifted only. Real targets are treated alike, so the loss of
    a regression is in units of the training targets' variance.
    """
    axis = None if data.image is not None else 0
    mean = data.train_x.mean(axis=axis, dtype=np.float64)
    deviation = np.atleast_1d(data.train_x.std(axis=axis, dtype=np.float64))
    deviation[deviation < 1e-12 * (1 + np.abs(mean).max())] = 1.0
    kind = data.train_x.dtype.type
    shift, scale = np.atleast_1d(mean).astype(kind), (1.0 / deviation).astype(kind)
    record = {
        "x": "(x - mean) / deviation",
        "of": "all training pixels" if axis is None else "each feature over the training points",
        "mean": np.atleast_1d(mean).tolist(),
        "deviation": deviation.tolist(),
    }
    found = replace(data.changed(lambda x: (x - shift) * scale), normalisation=record)
    return _standard_targets(found) if data.regression else found


def _standard_targets(data: Dataset) -> Dataset:
    mean, deviation = data.train_y.mean(axis=0), data.train_y.std(axis=0)
    deviation[deviation < 1e-12 * (1 + np.abs(mean).max())] = 1.0
    record = {**data.normalisation, "target_mean": mean.tolist(), "target_deviation": deviation.tolist()}
    return replace(data.changed(lambda x: x, lambda y: (y - mean) / deviation), normalisation=record)
