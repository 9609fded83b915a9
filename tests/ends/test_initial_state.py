"""The learned constant of the neurons without a sensor."""

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn.data.sensors import Sensor, SensorMap
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.network.ownership import Ownership

WIDTHS = np.array([4, 2, 6])  # columns: p 0 1, q 2 3 | p 4, q 5 | p 6 7 8, q 9 10 11


def ownership(widths: np.ndarray) -> Ownership:
    """All agents of a path in one process."""
    return Ownership(dist_hdnn.path(len(widths)), np.asarray(widths))


def test_the_learned_constant_starts_at_zero_and_fills_the_other_columns_only():
    sensors = SensorMap([Sensor(0, 0, "q"), Sensor(1, 2, "p")], WIDTHS, features=2)
    initial = InitialState(sensors, ownership(WIDTHS), dtype=torch.float64)
    x = torch.randn(5, 2, dtype=torch.float64)
    assert initial.value.shape == (10,)
    assert torch.equal(sensors.lift(x, initial()), sensors.lift(x))
    with torch.no_grad():
        initial.value.copy_(torch.arange(1.0, 11.0))
    state = sensors.lift(x, initial())
    assert torch.equal(state[:, [2, 6]], x)
    assert torch.equal(state[0, [0, 1, 3, 4, 5, 7, 8, 9, 10, 11]], torch.arange(1.0, 11.0, dtype=torch.float64))
    state.sum().backward()
    assert torch.equal(initial.value.grad, torch.full((10,), 5.0, dtype=torch.float64))
    assert list(initial.state_dict()) == ["value"]


def test_sensors_of_other_widths_are_a_one_line_error():
    sensors = SensorMap([Sensor(0, 0, "p")], WIDTHS, 1)
    with pytest.raises(ValueError, match="build both from the same widths"):
        InitialState(sensors, ownership(WIDTHS[:2]))
