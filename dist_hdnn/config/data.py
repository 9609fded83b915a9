"""Options of both ends of the network: the data, who observes what, and how answers are read off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

TABLES = ("wine", "breast_cancer", "diabetes")
"""Tables that ship with scikit-learn."""
AGENT_TASKS = ("barbell", "ring_transfer")
"""Generated data in which every agent has features and targets of its own."""
PUBLISHED = ("mnist", "fashion_mnist")
"""Data sets that can be downloaded."""


@dataclass
class AugmentConfig:
    """Random changes of training images."""

    shift: float = 0.0
    """largest shift, in pixels"""
    rotate: float = 0.0
    """largest turn, in degrees"""
    scale: float = 0.0
    """largest zoom in or out, as a share of the size"""


@dataclass
class MissingConfig:
    """Gaps among the features of a file: empty cells, NaN, NA."""

    fill: Literal["mean", "zero", "last"] | None = None
    """what a gap becomes: mean of the column's training rows, zero, last: the reading before it, of a time series
    (default: gaps are refused)"""
    indicator: bool = True
    """a feature that is 1 in a gap, else 0, for each column that has gaps in the training rows"""


@dataclass
class DataConfig:
    """Inputs and labels."""

    name: Literal[
        "swiss_roll",
        "double_circles",
        "double_moons",
        "barbell",
        "ring_transfer",
        "digits",
        "wine",
        "breast_cancer",
        "diabetes",
        "mnist",
        "fashion_mnist",
        "idx",
        "file",
    ] = "swiss_roll"
    """data set; barbell, ring_transfer: agents with targets of their own; digits, wine, breast_cancer, diabetes: of
    scikit-learn; idx: IDX files in folder"""
    samples: int = 8000
    """points of a generated data set, training and test together"""
    noise: float = 0.0
    """standard deviation of the noise of a generated data set"""
    split: Literal["alternate", "random", "last"] | None = None
    """alternate: every second point is a test point, as published; random: a held-out split; last: of a time series
    (default: alternate for generated points, random for digits and shipped tables; a file needs one)"""
    test_fraction: float = 0.5
    """share of the test points when split=random or last"""
    validation_fraction: float = 0.0
    """share of the training points that validate instead: the last ones with split=last, else random ones"""
    seed: int | None = None
    """seed of generated points, noise and split (default: the seed of the run)"""
    file: str | None = None
    """.csv, .tsv (also .gz), .parquet or .npz file, or folder of .npy files, of name=file"""
    classes: int | None = None
    """number of classes in file or idx (default: highest label + 1)"""
    target: str = "label"
    """column of a table that holds the labels or the real targets"""
    targets: dict[str, int | str] | None = None
    """column of a table -> number or name of the agent that answers it: targets of each agent's own, gaps are unknown;
    with ahead these columns are features of that agent too"""
    agent: str | None = None
    """column that names the agent of a row, of a table with a row per time and agent; its other columns are features of
    that agent, target its own target"""
    ignore: list[str] = field(default_factory=list)
    """columns of a table that are no features"""
    time: str | None = None
    """column that the rows of a table are in order of; it is no feature, and the split is last"""
    missing: MissingConfig = field(default_factory=MissingConfig)
    task: Literal["classification", "regression"] = "classification"
    """what file asks for: classes, or real targets"""
    images: bool = False
    """arrays in file hold images, x of (samples, height, width) or (samples, height, width, channels)"""
    window: int = 1
    """rows of a time series that a sample sees, up to its own"""
    ahead: int = 0
    """rows of a time series from a sample to its target"""
    features: dict[str, int | str] | None = None
    """column of a table -> number or name of the agent that sees it (default: spread evenly)"""
    sensors: dict[str, int | str] | None = None
    """the same as features"""
    distance: int | None = None
    """hops from sender to receiver of ring_transfer (default: half the ring)"""
    payload: int = 1
    """numbers that ring_transfer sends"""
    folder: str | None = None
    """folder of the four IDX files of mnist, fashion_mnist or idx, plain or gzipped (default: data/NAME, the cache)"""
    download: bool = False
    """fetch mnist or fashion_mnist into ~/.cache/dist_hdnn where folder lacks them, and check their sha256"""
    standardise: bool = True
    """shift and scale features of images and files to mean 0 and deviation 1 over the training points"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def observers(self) -> dict[str, int | str] | None:
        """Column -> agent that sees it, under either name of the option."""
        return self.features if self.features is not None else self.sensors


@dataclass
class SensorConfig:
    """One input feature and the agent that observes it."""

    feature: int
    """column of the data"""
    agent: str | int
    """number of the agent, or its name in the graph file"""
    half: Literal["p", "q"] = "q"
    """half of the agent's state that takes the feature"""
    slot: int = 0
    """position in that half"""


@dataclass
class LiftConfig:
    """Map from the features to the agents' first state."""

    kind: Literal["sensors", "linear", "conv", "channels"] = "sensors"
    """sensors: one feature into one neuron; linear: every agent learns a map of the features that it sees; conv: after
    filters of its own on its patch of an image; channels: a neuron is a filter on the whole image, a pixel a sample"""
    rows: int | None = None
    """rows of the grid of patches over an image (default: those of a grid of agents, else as square as possible)"""
    columns: int | None = None
    """columns of the grid of patches"""
    channels: int = 8
    """filters of every agent of kind=conv"""
    kernel: int = 3
    """side of the filters of kind=conv and channels, odd"""
    pool: int = 2
    """side of the squares of filtered pixels that are pooled to their largest value; 1 for no pooling"""


@dataclass
class ReadoutConfig:
    """Map from the final state to a class."""

    kind: Literal["sum", "local", "gossip", "agents"] = "sum"
    """sum: one linear map over all agents; local: every agent classifies from its own neurons; gossip: and averages its
    scores with its neighbors'; agents: only the designated ones classify"""
    rounds: int = 4
    """rounds of averaging of kind=gossip"""
    agents: list[int | str] = field(default_factory=list)
    """numbers or names of the agents of kind=agents"""
    targets: Literal["shared", "own"] | None = None
    """own: every agent that answers has targets of its own, with kind=local, in arrays y of (samples, agents) or
    (samples, agents, targets); shared: all answer the same (default: own where the data have them)"""
