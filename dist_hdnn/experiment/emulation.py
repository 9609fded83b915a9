"""`dist-hdnn emulate`: the agents of a run as processes, and emulation.json in the run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dist_hdnn.build import assembly
from dist_hdnn.build.trained import load_run
from dist_hdnn.experiment.tasks import units_of
from dist_hdnn.exporting.emulation import Plan, emulate
from dist_hdnn.exporting.runtime import Manner
from dist_hdnn.exporting.virtual import Impairments
from dist_hdnn.inspection import per_prediction
from dist_hdnn.launching.launcher import environment_of_runs

FILE = "emulation.json"


def emulate_run(directory: Path, plan: Plan, links: Impairments, manner: Manner) -> dict[str, Any]:
    """Emulate a run, write the figures into its directory and return them. Raises ValueError, CheckpointError."""
    run = load_run(directory, deterministic=False)
    data = assembly.build_dataset(run.config)
    ledger = per_prediction(run.config, run.net.layout, data)
    result = emulate(run, data, ledger, environment_of_runs(1), plan, links, manner, units_of(data))
    (directory / FILE).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return result
