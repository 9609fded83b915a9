"""Typed, documented options of a run, read from YAML files and command lines.

    network     graph, patterns, layers             data    data, sensors, lift, readout
    run         Config: all of them, the training recipe, checkpoints, workers, and what a resumed run must keep
    files       YAML and overrides <-> Config       schema  the value of an option, by its type
    checks      complaints about a Config whose types are right

The text under each field is what `dist-hdnn train --help` shows. Nothing here imports torch or numpy, so that `--help`
answers at once.
"""

from dist_hdnn.config.data import AGENT_TASKS as AGENT_TASKS
from dist_hdnn.config.data import PUBLISHED as PUBLISHED
from dist_hdnn.config.data import TABLES as TABLES
from dist_hdnn.config.data import DataConfig as DataConfig
from dist_hdnn.config.data import LiftConfig as LiftConfig
from dist_hdnn.config.links import LinksConfig as LinksConfig
from dist_hdnn.config.network import FAMILY_OPTIONS as FAMILY_OPTIONS
from dist_hdnn.config.network import ArchitectureName as ArchitectureName
from dist_hdnn.config.network import GraphConfig as GraphConfig
from dist_hdnn.config.network import IntegratorName as IntegratorName
from dist_hdnn.config.network import PatternConfig as PatternConfig
from dist_hdnn.config.run import ELSEWHERE as ELSEWHERE
from dist_hdnn.config.run import Config as Config
from dist_hdnn.config.run import TrainConfig as TrainConfig
from dist_hdnn.config.run import execution_of as execution_of
from dist_hdnn.config.run import forget_workers as forget_workers
from dist_hdnn.config.run import interval as interval
from dist_hdnn.config.run import run_identity as run_identity
from dist_hdnn.config.run import seed_of as seed_of
from dist_hdnn.config.run import with_seeds as with_seeds
