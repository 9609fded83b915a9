"""Small images on disk that several tests read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from dist_hdnn.data.readers.idx import PARTS


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """A uint8 array in IDX form."""
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_idx_digits(folder: Path, packed: bool = True, training: int = 300, test: int = 100) -> Path:
    """scikit-learn's digits as the four files of MNIST."""
    x, y = load_digits(return_X_y=True)
    x = (x * 15).reshape(-1, 8, 8)
    ranges = {"train": slice(0, training), "test": slice(training, training + test)}
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in PARTS.items():
        content = idx_bytes((x if part.endswith("x") else y)[ranges[part[:-2]]])
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder
