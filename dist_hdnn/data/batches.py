"""Batch order, and the keyed random streams that every data module draws from.

A stream is a function of (seed, purpose, index) alone. Neither the number of workers nor earlier draws can change it,
and training resumed at epoch 17 sees the batches of epoch 17.
"""

import hashlib

import numpy as np
import numpy.typing as npt

SEED_LIMIT = 2**64


def checked_integer(value: object, what: str, least: int, remedy: str, limit: int | None = None) -> int:
    """Return `value` as an int in least .. limit - 1. ValueError that names `what` it is and the `remedy`."""
    number = int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None
    if number is None or number < least or (limit is not None and number >= limit):
        upper = "" if limit is None else f" and below {limit}"
        raise ValueError(f"{what}: expected an integer of at least {least}{upper}, got {value!r}; {remedy}")
    return number


def keyed_stream(seed: int, purpose: str, index: int = 0) -> np.random.Philox:
    """Return counter-based random bits keyed by (seed, purpose, index).

    seed: 0 <= seed < 2**64. purpose: any text, one per use, so that streams never meet. index: for example the epoch.
    The key is (seed, 64 bits of the purpose's SHA-256). The index is the top word of Philox's 256-bit counter, so two
    indices are 2**192 blocks apart. ValueError for a seed or an index outside its range.
    """
    remedy = "choose a number in that range"
    seed = checked_integer(seed, "seed", 0, remedy, SEED_LIMIT)
    index = checked_integer(index, f"index of the random stream {purpose!r}", 0, remedy, SEED_LIMIT)
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    key = np.array([seed, word], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, index], dtype=np.uint64))


def shuffled(samples: int, seed: int, purpose: str, index: int = 0) -> npt.NDArray[np.int64]:
    """Return a random permutation of 0 .. samples - 1, (samples,) int64.

    It sorts raw Philox words: numpy promises these for ever, but not how `Generator.permutation` uses them.
    """
    words = keyed_stream(seed, purpose, index).random_raw(samples)
    return np.argsort(words, kind="stable").astype(np.int64)


def batch_order(samples: int, batch_size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Return the batches of one epoch as index arrays that together hold every sample exactly once.

    Each (seed, epoch) has its own order. Each array is (batch_size,) int64; the last one is shorter where batch_size
    does not divide samples. ValueError for sizes below one or a negative seed or epoch.
    """
    samples = checked_integer(samples, "number of training samples", 1, "give at least one training point")
    batch_size = checked_integer(batch_size, "batch size", 1, "set train.batch_size to 1 or more")
    epoch = checked_integer(epoch, "epoch", 0, "epochs count from 0", SEED_LIMIT)
    order = shuffled(samples, seed, "batch order", epoch)
    return [order[start : start + batch_size] for start in range(0, samples, batch_size)]
