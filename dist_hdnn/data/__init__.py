"""Data sets, which agent observes which feature, and the order of the batches."""

from dist_hdnn.data.arrays import from_arrays, from_parts
from dist_hdnn.data.augmentation import Augmentation, augmentation
from dist_hdnn.data.batches import batch_order
from dist_hdnn.data.checks import validated
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.patches import (
    Views,
    column_views,
    columns_named_like,
    even_owners,
    even_views,
    patches,
    shape_of_grid,
)
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.builtin import PUBLISHED, TABLES, digits, idx_folder, published, shipped_table
from dist_hdnn.data.readers.files import read_dataset
from dist_hdnn.data.scaling import standardised
from dist_hdnn.data.sensors import Sensor, SensorMap, default_sensors
from dist_hdnn.data.splits import Cut
from dist_hdnn.data.toys import TOYS, double_circles, double_moons, swiss_roll

__all__ = [
    "PUBLISHED",
    "TABLES",
    "TOYS",
    "Augmentation",
    "Cut",
    "Dataset",
    "Preparation",
    "Sensor",
    "SensorMap",
    "Views",
    "augmentation",
    "batch_order",
    "column_views",
    "columns_named_like",
    "default_sensors",
    "digits",
    "double_circles",
    "double_moons",
    "even_owners",
    "even_views",
    "from_arrays",
    "from_parts",
    "idx_folder",
    "patches",
    "published",
    "read_dataset",
    "shape_of_grid",
    "shipped_table",
    "standardised",
    "swiss_roll",
    "validated",
]
