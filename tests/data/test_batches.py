"""Batch order: every sample once an epoch, a function of (seed, epoch) only."""

import numpy as np
import pytest

from dist_hdnn.data.batches import batch_order, keyed_stream


@pytest.mark.parametrize(
    ("samples", "size", "sizes"), [(10, 3, [3, 3, 3, 1]), (10, 5, [5, 5]), (2, 125, [2]), (1, 1, [1])]
)
def test_the_batches_hold_every_sample_exactly_once(samples, size, sizes):
    batches = batch_order(samples, size, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(np.concatenate(batches)) == list(range(samples))
    assert all(batch.dtype == np.int64 for batch in batches)


def test_the_order_is_a_function_of_seed_and_epoch_only():
    orders = {
        (seed, epoch): np.concatenate(batch_order(4000, 125, seed, epoch)) for seed in range(4) for epoch in range(4)
    }
    assert len({order.tobytes() for order in orders.values()}) == 16
    np.random.default_rng(0).random(17)  # what was drawn elsewhere does not matter
    assert np.array_equal(orders[2, 3], np.concatenate(batch_order(4000, 125, seed=2, epoch=3)))


def test_the_batch_size_cuts_one_order_and_does_not_change_it():
    assert np.array_equal(np.concatenate(batch_order(100, 7, 5, 2)), np.concatenate(batch_order(100, 100, 5, 2)))


def test_the_order_stays_what_it_was_when_first_released():
    # resumed runs and committed figures depend on it: a change here is a breaking change
    assert [batch.tolist() for batch in batch_order(8, 4, seed=0, epoch=1)] == [[0, 7, 6, 3], [5, 1, 2, 4]]


def test_streams_of_different_purposes_differ():
    words = [keyed_stream(0, purpose, index).random_raw(4) for purpose in "ab" for index in (0, 1)]
    assert len({word.tobytes() for word in words}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0, 0), "number of training samples: expected an integer of at least 1, got 0"),
        ((5, 0, 0, 0), "batch size: expected an integer of at least 1, got 0; set train.batch_size to 1 or more"),
        ((5, 2.0, 0, 0), "batch size: expected an integer of at least 1, got 2.0"),
        ((5, 1, -1, 0), "seed: expected an integer of at least 0 and below .* got -1"),
        ((5, 1, 0, -1), "epoch: expected an integer of at least 0 and below .* got -1; epochs count from 0"),
    ],
)
def test_a_bad_argument_is_a_one_line_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        batch_order(*arguments)
