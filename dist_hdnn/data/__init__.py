"""Data sets, which agent observes which feature, and the order of the batches."""

from dist_hdnn.data.batches import batch_order
from dist_hdnn.data.files import from_arrays, read_dataset, validated
from dist_hdnn.data.sensors import InitialState, Sensor, SensorMap, default_sensors
from dist_hdnn.data.toys import TOYS, Dataset, double_circles, double_moons, swiss_roll

__all__ = [
    "TOYS",
    "Dataset",
    "InitialState",
    "Sensor",
    "SensorMap",
    "batch_order",
    "default_sensors",
    "double_circles",
    "double_moons",
    "from_arrays",
    "read_dataset",
    "swiss_roll",
    "validated",
]
