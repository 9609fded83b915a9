"""Sensors: which neuron a feature enters, the differentiable lift, and every wrong placement."""

import numpy as np
import pytest
import torch

from dist_hdnn.data.sensors import Sensor, SensorMap, default_sensors

WIDTHS = np.array([4, 2, 6])  # columns: p 0 1, q 2 3 | p 4, q 5 | p 6 7 8, q 9 10 11


@pytest.mark.parametrize(
    ("sensor", "column"),
    [
        (Sensor(0, 0, "p"), 0),
        (Sensor(0, 0, "q", 1), 3),
        (Sensor(0, 1, "p"), 4),
        (Sensor(0, 1, "q"), 5),
        (Sensor(0, 2, "p", 2), 8),
        (Sensor(0, 2, "q", 2), 11),
    ],
)
def test_a_sensor_enters_its_column_of_unequal_blocks(sensor, column):
    assert SensorMap([sensor], WIDTHS, features=1).columns.tolist() == [column]


def test_the_lift_places_each_feature_and_leaves_zeros_elsewhere():
    sensors = SensorMap([Sensor(1, 2, "p"), Sensor(0, 0, "q"), Sensor(0, 1, "q")], WIDTHS, features=2)
    assert sensors.columns.tolist() == [2, 5, 6] and sensors.feature_of_column.tolist() == [0, 0, 1]
    state = sensors.lift(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64))
    expected = torch.zeros(2, 12, dtype=torch.float64)
    expected[:, 2] = expected[:, 5] = torch.tensor([1.0, 3.0])
    expected[:, 6] = torch.tensor([2.0, 4.0])
    assert torch.equal(state, expected) and state.dtype == torch.float64


def test_the_gradient_of_a_feature_is_the_sum_over_its_sensors():
    sensors = SensorMap([Sensor(1, 2, "p"), Sensor(0, 0, "q"), Sensor(0, 1, "q")], WIDTHS, features=2)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(3, 12, dtype=torch.float64)
    sensors.lift(x).backward(cotangent)
    assert torch.equal(x.grad, torch.stack([cotangent[:, 2] + cotangent[:, 5], cotangent[:, 6]], dim=1))


def test_the_lift_costs_no_loop_over_agents():
    agents = 100_000
    sensors = SensorMap(default_sensors(2, np.full(agents, 2)), np.full(agents, 2), features=2)
    state = sensors.lift(torch.ones(2, 2))
    assert state.shape == (2, 200_000) and state.sum() == 4


def test_two_default_sensors_are_the_first_and_last_channel_as_published():
    assert default_sensors(2, np.full(8, 2)) == (Sensor(0, 0, "q"), Sensor(1, 7, "p"))
    assert default_sensors(2, np.array([2])) == (Sensor(0, 0, "q"), Sensor(1, 0, "p"))
    assert default_sensors(1, WIDTHS) == (Sensor(0, 0, "q"),)


@pytest.mark.parametrize("widths", [[2], [2] * 8, [4, 2, 6], [6, 6, 2, 2, 4]])
def test_default_sensors_fit_up_to_one_feature_a_neuron_and_spread(widths):
    widths = np.array(widths)
    for features in range(1, widths.sum() + 1):
        sensors = default_sensors(features, widths)
        placed = SensorMap(sensors, widths, features)  # raises on any collision
        assert [sensor.feature for sensor in placed.sensors] == list(range(features))
        agents = [sensor.agent for sensor in sensors]
        assert agents == sorted(agents)
        if features > 1:
            assert (agents[0], sensors[0].half, agents[-1], sensors[-1].half) == (0, "q", len(widths) - 1, "p")
        if (widths == widths[0]).all() and features <= len(widths):
            assert len(set(agents)) == features


@pytest.mark.parametrize(
    ("sensors", "features", "message"),
    [
        ([Sensor(0, 3, "p")], 1, r"feature 0 on agent 3, p\[0\].*unknown agent.*below 3, got 3; the agents are 0 .. 2"),
        ([Sensor(0, -1, "p")], 1, "unknown agent.*got -1"),
        ([Sensor(0, "Roma", "p")], 1, "unknown agent: expected an integer .* got 'Roma'; the agents are 0 .. 2"),
        ([Sensor(5, 0, "p")], 2, "feature: expected an integer .*below 2, got 5; the data have features 0 .. 1"),
        (
            [Sensor(0, 1, "p", 1)],
            1,
            "slot: expected .*below 1, got 1; agent 1 has 2 neurons, slots 0 .. 0 in p and in q",
        ),
        ([Sensor(0, 0, "p", -1)], 1, "slot: expected an integer of at least 0 and below 2, got -1"),
        ([Sensor(0, 0, "x")], 1, "expected the half p or q, got 'x'"),
        (
            [Sensor(0, 0, "p"), Sensor(1, 0, "p")],
            2,
            r"one sensor per neuron, got feature 0 on agent 0, p\[0\] and feature 1 on agent 0, p\[0\]; move one",
        ),
        (
            [Sensor(0, 0, "p")],
            3,
            "more features than sensors: .* each of the 3 features, got none for feature 1, 2; add",
        ),
        ([], 1, "more features than sensors"),
    ],
)
def test_a_wrong_sensor_is_a_one_line_error(sensors, features, message):
    with pytest.raises(ValueError, match=message) as caught:
        SensorMap(sensors, WIDTHS, features)
    assert "\n" not in str(caught.value)


def test_more_features_than_neurons_is_a_one_line_error():
    with pytest.raises(
        ValueError, match="more features than sensors fit: expected at most 12 .* got 13; increase network.width"
    ):
        default_sensors(13, WIDTHS)


@pytest.mark.parametrize("widths", [[], [3], [0, 2], [2.0, 2.0], [[2, 2]]])
def test_widths_that_no_network_has_are_refused(widths):
    with pytest.raises(ValueError, match="expected one even width of at least 2 per agent"):
        SensorMap([Sensor(0, 0, "p")], np.array(widths), 1)


def test_input_of_another_shape_is_a_one_line_error():
    sensors = SensorMap(default_sensors(2, WIDTHS), WIDTHS, 2)
    with pytest.raises(ValueError, match=r"expected input of shape \(batch, 2\), got \(5, 3\)"):
        sensors.lift(torch.zeros(5, 3))


def test_restricted_sensors_lift_exactly_the_columns_of_these_agents():
    widths = np.array([4, 2, 6, 2])
    sensors = SensorMap([Sensor(0, 0, "q", 1), Sensor(1, 2, "p"), Sensor(0, 2, "q", 2)], widths, features=2)
    x = torch.randn(3, 2, dtype=torch.float64)
    whole = sensors.lift(x)
    starts = np.cumsum(widths) - widths
    for agents in ([0, 1, 2, 3], [2], [1, 3], [0, 2], [3]):
        columns = np.concatenate([np.arange(starts[agent], starts[agent] + widths[agent]) for agent in agents])
        assert torch.equal(sensors.restricted(np.array(agents)).lift(x), whole[:, columns])
