"""What a run is: typed, documented options, read from YAML files and command lines.

    network     graph, patterns, layers             data    data, sensors, lift, readout
    run         Config: all of them, the training recipe, checkpoints, workers
    resuming    what a resumed run must keep, how often it is saved, and the seeds that follow the seed of the run
    files       YAML and overrides <-> Config       schema  what a value may be, by the types of the options
    checks      what is wrong with a Config whose types are right

The text under each field is what `dist-hdnn train --help` shows. Nothing here imports torch or numpy, so that `--help`
answers at once.
"""

from dist_hdnn.config.data import (
    AGENT_TASKS,
    PUBLISHED,
    TABLES,
    AugmentConfig,
    DataConfig,
    LiftConfig,
    MissingConfig,
    ReadoutConfig,
    SensorConfig,
)
from dist_hdnn.config.network import (
    FAMILY_OPTIONS,
    ArchitectureName,
    Family,
    GraphConfig,
    IntegratorName,
    NetworkConfig,
    PatternConfig,
)
from dist_hdnn.config.resuming import ELSEWHERE, forget_workers, interval, run_identity, seed_of, with_seeds
from dist_hdnn.config.run import CheckpointConfig, Config, PartitionConfig, TrainConfig, execution_of

__all__ = [
    "ELSEWHERE",
    "FAMILY_OPTIONS",
    "PUBLISHED",
    "AGENT_TASKS",
    "TABLES",
    "ArchitectureName",
    "AugmentConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "Family",
    "GraphConfig",
    "IntegratorName",
    "LiftConfig",
    "MissingConfig",
    "NetworkConfig",
    "PartitionConfig",
    "PatternConfig",
    "ReadoutConfig",
    "SensorConfig",
    "TrainConfig",
    "execution_of",
    "forget_workers",
    "interval",
    "run_identity",
    "seed_of",
    "with_seeds",
]
