"""Data sets, which agent observes which feature, and the order of the batches."""

from dist_hdnn.data.agent_tasks import barbell, ring_transfer
from dist_hdnn.data.arrays import Task, dataset_of, from_arrays
from dist_hdnn.data.augmentation import Augmentation
from dist_hdnn.data.batches import batch_order
from dist_hdnn.data.dataset import Dataset, standardised
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.builtin import digits, shipped_table
from dist_hdnn.data.readers.files import read_dataset
from dist_hdnn.data.readers.idx import idx_folder, published
from dist_hdnn.data.sensors import Sensor, SensorMap, default_sensors
from dist_hdnn.data.splits import Cut
from dist_hdnn.data.toys import TOYS, double_circles, double_moons, swiss_roll
from dist_hdnn.data.views import (
    Views,
    column_views,
    columns_named_like,
    even_views,
    patches,
    shape_of_grid,
)

__all__ = [
    "TOYS",
    "Augmentation",
    "Cut",
    "Dataset",
    "Preparation",
    "Sensor",
    "SensorMap",
    "Task",
    "Views",
    "barbell",
    "batch_order",
    "column_views",
    "columns_named_like",
    "dataset_of",
    "default_sensors",
    "digits",
    "double_circles",
    "double_moons",
    "even_views",
    "from_arrays",
    "idx_folder",
    "patches",
    "published",
    "read_dataset",
    "ring_transfer",
    "shape_of_grid",
    "shipped_table",
    "standardised",
    "swiss_roll",
]
