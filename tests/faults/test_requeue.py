"""F26 under Slurm: launch/slurm.sh queues a stopped job again, which goes on; srun and scontrol are stand-ins."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from faults.jobs import OPTIONS, ROOT, Job, assert_same

from dist_hdnn.cli import main
from dist_hdnn.experiment import pictures

SRUN = """#!/usr/bin/env bash
while [ "$1" != mpi4py ]; do shift; done
shift
exec "$PYTHON" "$@"
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = requeue ]; then echo "$2" >> "$0.requeued"; else echo localhost; fi
"""


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_F26_a_job_that_slurm_stops_is_queued_again_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost", "PYTHON": sys.executable}
    for name, value in (slurm | {"OUTPUT": str(tmp_path / "run"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}).items():
        monkeypatch.setenv(name, value)
    run, requeued = tmp_path / "run", tmp_path / "scontrol.requeued"
    job = Job(run, "env", *(f"{key}={value}" for key, value in slurm.items()), ROOT / "launch" / "slurm.sh", *OPTIONS)
    try:
        job.wait_for_epoch(3)
        (step,) = job.workers()
        os.kill(step, signal.SIGTERM)
        code, errors = job.end(60)
    finally:
        job.kill()
    assert code == 75, errors
    assert requeued.read_text() == "7\n"
    assert json.loads((run / "summary.json").read_text())["status"] == "stopped"
    again = Job(run, "env", *(f"{key}={value}" for key, value in slurm.items()), ROOT / "launch" / "slurm.sh", *OPTIONS)
    code, errors = again.end(100)
    assert code == 0, errors
    assert requeued.read_text() == "7\n", "a job that is done is not queued again"
    monkeypatch.setattr(pictures, "plot_run", lambda *_: None)
    assert main(["train", *OPTIONS, f"--output={tmp_path / 'undisturbed'}"]) == 0
    assert_same(run, tmp_path / "undisturbed")
