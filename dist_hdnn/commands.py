"""What each command of `dist-hdnn` does: words of the command line in, answer on stdout and exit code out.

torch and numpy are imported after the words are read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dist_hdnn.command_line import (
    UsageError,
    asks_for_help,
    config_of,
    own_options,
    positive,
    refuse_misspelt,
    simple,
    split,
)
from dist_hdnn.config import ELSEWHERE, Config
from dist_hdnn.config.bundled import names
from dist_hdnn.config.paths import user_path
from dist_hdnn.launching.stopping import StopRequest, listening
from dist_hdnn.printing import print_json
from dist_hdnn.run.directory import newest_unfinished_run, weights_of_run

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport


class StudyStopped(Exception):
    """A study that was told to stop."""

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(f"study {name}: stopped; the same command goes on where it stopped")
        self.exit_code = exit_code


def train(given: list[str]) -> int:
    with listening() as stop:
        given = _with_config_of_run(_warm_start(given))
        config = config_of("train", given, ("--print_config",))
        if config is None:
            return 0
        from dist_hdnn.launching import launcher

        launcher.prepare_environment(config)

        def run(config: Config, transport: Transport | None) -> int:
            return _train_as(config, transport, stop)

        return launcher.launch(given, config, run, stop=stop)


def _warm_start(given: list[str]) -> list[str]:
    """--from RUN as the option warm_start, with the place of that run where it is given by its name."""
    words = [f"--warm_start{word[6:]}" if word.split("=")[0] == "--from" else word for word in given]
    own, others = own_options("train", words, ("warm_start",))
    return [*others, f"--warm_start={weights_of_run(own['warm_start'])[1]}"] if own else words


def _with_config_of_run(given: list[str]) -> list[str]:
    """Without a CONFIG that of the run to resume, given by --resume=RUN or CHECKPOINT or by --output, or to start from.

    --resume=auto without them, and without any option that a run cannot change, is the newest run below runs/ that has
    not come to its end.
    """
    positional, options = split("train", given, ("--print_config",))
    own, others = own_options("train", options, ("resume", "output", "warm_start"))
    if "warm_start" in own and not positional and "resume" not in own:
        return [str(weights_of_run(own["warm_start"])[0] / "config.yaml"), *given]
    if positional or "resume" not in own:
        return given
    if own == {"resume": "auto"} and all(word.lstrip("-").split("=")[0].split(".")[0] in ELSEWHERE for word in others):
        newest = newest_unfinished_run()
        if newest is None:
            raise UsageError("train: expected an unfinished run below runs/ to go on with, got none; give a CONFIG")
        return [str(newest / "config.yaml"), *given]
    named = own.get("output", "") if own["resume"] == "auto" else own["resume"]
    path = user_path(named, "train")
    for directory in (path, *list(path.resolve().parents)[1:2]):
        if named and (directory / "config.yaml").is_file():
            return [str(directory / "config.yaml"), *given]
    return given


def _train_as(config: Config, transport: Transport | None, stop: StopRequest) -> int:
    """Train as one worker, or alone; prints where there is a run directory, which worker 0 makes."""
    from dist_hdnn.experiment import tasks
    from dist_hdnn.training.checkpoints.schedule import Stopped

    try:
        directory = tasks.train(config, transport, stop)
    except Stopped as error:
        if transport is None or transport.rank == 0:
            print(f"dist-hdnn: {error}; go on with:\n{error.command}", file=sys.stderr, flush=True)
        return error.exit_code
    if directory is None:
        return 0
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    if "test_r2" in summary:
        fit = summary["test_r2"]
        print(f"test R²       {'undefined: all targets are equal' if fit is None else f'{fit:.4f}'}")
    else:
        print(f"test accuracy {100 * summary['test_accuracy']:.2f} %")
    if "best_epoch" in summary:
        print(f"weights       of epoch {summary['best_epoch']} of {summary['epochs']}, the best on validation data")
    if "mean_agent_accuracy" in summary:
        mean, worst = (100 * summary[f"{which}_agent_accuracy"] for which in ("mean", "worst"))
        print(f"agents        mean {mean:.2f} %, worst {worst:.2f} %")
    if config.plots and (directory / "plots").is_dir():
        print(f"plots         {directory / 'plots'}")
    print(f"run           {directory}")
    return 0


def inspect(given: list[str]) -> int:
    config = config_of("inspect", given, ("--json", "--print_config"))
    if config is None:
        return 0
    from dist_hdnn.experiment import tasks
    from dist_hdnn.printing import inspection_sections, show

    info = tasks.inspect(config)
    if "--json" in given:
        print_json(info)
    else:
        show(inspection_sections(info))
    return 0


STUDY_USAGE = """\
usage: dist-hdnn study STUDY [--output=DIR] [--parallel=N] [--trials=N]
                       [--max-trials=N] [--retry-failed] [--key=value ...]

A trade-off study: trains the network of a base config along axes of its
options, each trial a process of its own. STUDY is a YAML file, or the name of
one of these, which come with the package:
  {studies}
--key=value options override its base config. The same command goes on with a
study that was stopped.
  --output=DIR      folder of the study (default: runs/studies/<name>)
  --parallel=N      trials at once (default: as many as there are cores)
  --trials=N        trials of a random or Optuna search
  --max-trials=N    trials to run now; the rest waits for the same command
  --retry-failed    run trials again that have failed"""


def study(given: list[str]) -> int:
    retry = "--retry-failed" in given
    positional, options = split("study", [word for word in given if word != "--retry-failed"], ())
    if asks_for_help(given):
        print(STUDY_USAGE.format(studies=", ".join(names("study"))))
        return 0
    if len(positional) != 1:
        raise UsageError(f"study: expected one study file, got {' and '.join(positional) or 'nothing'}")
    own, overrides = own_options("study", options, ("output", "parallel", "trials", "max-trials"))
    whole = ("parallel", "trials", "max-trials")
    numbers = {name: positive(f"study: --{name}", own[name]) for name in whole if name in own}
    most = numbers.pop("max-trials", None)

    refuse_misspelt("study", overrides, ("--parallel", "--trials", "--max-trials", "--retry-failed"))
    from dist_hdnn.study.plan import read_plan

    plan = read_plan(positional[0], overrides, **numbers)
    output = user_path(own.get("output") or Path("runs", "studies", plan.name), "study: output")
    from dist_hdnn.study.command import run_study

    command = " ".join(["dist-hdnn study", *given])
    try:
        found = run_study(plan, output, command, retry, most)
    except (KeyboardInterrupt, SystemExit) as stop:
        raise StudyStopped(plan.name, 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)) from stop
    left = f", {found['left']} left for the same command" if found["left"] else ""
    print(f"trials        {found['trials'] - found['failed']} done, {found['failed']} failed{left}")
    print(f"table         {found['table']}")
    print(f"plots         {output / 'plots'}")
    print(f"report        {found['report']}")
    return 0


def doctor(given: list[str]) -> int:
    usage = "usage: dist-hdnn doctor [--json]\n\nVersions, threads, transports, GPU and write access of this machine."
    if simple("doctor", given, usage, ("--json",), 0) is None:
        return 0
    from dist_hdnn.doctor import examine, to_json
    from dist_hdnn.printing import show

    findings = examine()
    if "--json" in given:
        print_json(to_json(findings))
    else:
        show(
            {
                section: [(f"{'ok  ' if found.ok else '--  '}{found.name}", found.detail) for found in group]
                for section, group in findings.items()
            }
        )
    return 0
