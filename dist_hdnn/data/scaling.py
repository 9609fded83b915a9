"""Shift and scale of the features, from the training points alone, and recorded in the data set's preparation.

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
    fitted = replace(data.preparation, mean=tuple(np.atleast_1d(mean).tolist()), deviation=tuple(deviation.tolist()))
    if data.regression:
        center, spread = data.train_y.mean(axis=0), data.train_y.std(axis=0)
        spread[spread < 1e-12 * (1 + np.abs(center).max())] = 1.0
        fitted = replace(fitted, target_mean=tuple(center.tolist()), target_deviation=tuple(spread.tolist()))
    found = data.changed(fitted.scaled, fitted.scaled_targets)
    return replace(found, preparation=fitted)
