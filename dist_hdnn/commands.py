"""The commands of `dist-hdnn`: a line of words in, the answer on stdout and an exit code out.

torch and numpy are imported after the words are read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_hdnn.command_line import (
    Command,
    Line,
    as_tuned,
    config_of,
    positive,
    run_directory,
    with_config_of_run,
    with_warm_start,
)
from dist_hdnn.config import Config, forget_workers
from dist_hdnn.config.checks import validate
from dist_hdnn.config.paths import user_path
from dist_hdnn.launching.worker import StopRequest, listening
from dist_hdnn.printing import (
    Sections,
    announce,
    certificate_sections,
    inspection_sections,
    print_json,
    rows_of,
    show,
    summary_rows,
)
from dist_hdnn.run.directory import config_of_run

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport

LINKS = ("loss", "latency", "jitter", "fill", "seed")  # options of emulate that stand for --links.loss and so on


def _answer(line: Line, result: dict[str, Any], sections: Callable[[dict[str, Any]], Sections]) -> None:
    """Print the result of a command, as JSON for --json."""
    if "--json" in line.flags:
        print_json(result)
    else:
        show(sections(result))


def train(line: Line) -> int:
    return _train(line.command, lambda: with_config_of_run(line.command.read(with_warm_start(line))))


def tune(line: Line) -> int:
    return _train(line.command, lambda: as_tuned(line))


def _train(command: Command, of_train: Callable[[], list[str]]) -> int:
    """Train as words of `train` say."""
    with listening() as stop:
        words = of_train()
        config = config_of(command, words)
        if config is None:
            return 0
        from dist_hdnn.launching import launcher

        launcher.prepare_environment(config)

        def run(config: Config, transport: Transport | None) -> int:
            return _train_as(config, transport, stop)

        return launcher.launch(words, config, run, stop=stop)


def _train_as(config: Config, transport: Transport | None, stop: StopRequest) -> int:
    """Train as one worker, or alone, and print the summary where the run directory is, on worker 0."""
    from dist_hdnn.experiment import tasks
    from dist_hdnn.training.checkpoints.schedule import Stopped

    try:
        directory = tasks.train(config, transport, stop)
    except Stopped as error:
        if transport is None or transport.rank == 0:
            print(f"dist-hdnn: {error}; resume with:\n{error.command}", file=sys.stderr, flush=True)
        return error.exit_code
    if directory is None:
        return 0
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    plots = directory / "plots"
    for label, text in summary_rows(summary, directory, plots if config.plots and plots.is_dir() else None):
        print(f"{label:13} {text}")
    return 0


def inspect(line: Line) -> int:
    config = config_of(line.command, line.words)
    if config is None:
        return 0
    from dist_hdnn.experiment import tasks

    info = tasks.inspect(config)
    _answer(line, info, inspection_sections)
    return 0


def evaluate(line: Line) -> int:
    directory = run_directory("evaluate", line.arguments[0])
    from dist_hdnn.experiment import tasks

    result = tasks.evaluate(directory)
    _answer(line, result, lambda result: {str(directory): rows_of(result)})
    return 0


def robustness(line: Line) -> int:
    directory = run_directory("robustness", line.arguments[0])
    numbers = {
        name: positive(f"robustness: --{name}", line.own[name])
        for name in ("repetitions", "samples")
        if name in line.own
    }
    values = {name: text for name, text in line.own.items() if name not in ("repetitions", "samples", "fill")}
    from dist_hdnn.experiment.robustness import robustness_of_run, robustness_sections

    result = robustness_of_run(directory, values, fill=line.own.get("fill"), **numbers)
    files = {"files": [("figures", str(directory / "robustness.json")), ("picture", str(directory / "plots"))]}
    _answer(line, result, lambda result: robustness_sections(result) | files)
    return 0


def certify(line: Line) -> int:
    directory = run_directory("certify", line.arguments[0])
    samples = positive("certify: --samples", line.own.get("samples", "16"))
    values = {key: value for key, value in line.own.items() if key != "samples"}
    from dist_hdnn.launching import launcher

    config = config_of_run(directory, [f"--{key}={value}" for key, value in values.items()])
    forget_workers(config, values)
    validate(config)
    launcher.prepare_environment(config)

    def run(config: Config, transport: Transport | None) -> int:
        if transport is None or transport.rank == 0:
            announce("measuring")
        from dist_hdnn.experiment.certify import certify_run, complain

        certificate = certify_run(directory, config, samples, transport)
        if certificate is not None:
            files = {"files": [("pictures", str(directory / "plots"))]}
            _answer(line, certificate, lambda certificate: certificate_sections(certificate) | files)
            sys.stdout.flush()
        if transport is not None:
            transport.barrier()  # no worker ends the others before worker 0 has printed everything
        if certificate is not None:
            complain(certificate)
        return 0

    return launcher.launch(line.words, config, run, ("-m", "dist_hdnn", "certify"))


class StudyStopped(Exception):
    """A study that a signal has stopped."""

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(f"study {name}: stopped; the same command resumes it")
        self.exit_code = exit_code


def study(line: Line) -> int:
    whole = ("parallel", "trials", "max-trials")
    numbers = {name: positive(f"study: --{name}", line.own[name]) for name in whole if name in line.own}
    most = numbers.pop("max-trials", None)
    from dist_hdnn.study.plan import read_plan

    plan = read_plan(line.arguments[0], line.overrides, **numbers)
    output = user_path(line.own.get("output") or Path("runs", "studies", plan.name), "study: output")
    from dist_hdnn.study.command import run_study

    command = " ".join(["dist-hdnn study", *line.words])
    try:
        outcome = run_study(plan, output, command, "--retry-failed" in line.flags, most)
    except (KeyboardInterrupt, SystemExit) as stop:
        raise StudyStopped(plan.name, 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)) from stop
    left = f", {outcome['left']} left for the same command" if outcome["left"] else ""
    print(f"trials        {outcome['trials'] - outcome['failed']} done, {outcome['failed']} failed{left}")
    print(f"table         {outcome['table']}")
    print(f"plots         {output / 'plots'}")
    print(f"report        {outcome['report']}")
    return 0


def export(line: Line) -> int:
    run = run_directory("export", line.arguments[0])
    which = line.own.get("agents", "").split(",")
    runtime, named = "--runtime" in line.flags, [word.strip() for word in which]
    only = [f"--{name}" for name in ("protocol", "deadline", "fill") if name in line.own]
    if only and not runtime:
        raise ValueError(f"export: expected {only[0]} with --runtime only, got it without; add --runtime")
    announce("exporting")
    chosen: Any
    if runtime:
        from dist_hdnn.build.trained import load_run
        from dist_hdnn.exporting.runtime import export_runtime, manner_of

        if which[0] == "none":
            raise ValueError("export: expected agents for --runtime, got --agents=none; leave it out")
        chosen = None if which[0] in ("", "all") else named
        loaded = load_run(run, deterministic=False)
        manner = manner_of(
            loaded.config.links, _seconds(line, "deadline"), line.own.get("protocol"), line.own.get("fill")
        )
        output = export_runtime(loaded, Path(line.own.get("output") or run / "runtime"), manner, chosen)
    else:
        from dist_hdnn.exporting.files import export_run

        chosen = {"": None, "all": "all", "none": []}.get(which[0], named)
        output = export_run(run, Path(line.own.get("output") or run / "export"), chosen)
    print(f"exported      {output}")
    return 0


def emulate(line: Line) -> int:
    directory = run_directory("emulate", line.arguments[0])
    other = [word for word in line.overrides if not word.startswith("--links.")]
    if other:
        raise ValueError(f"emulate: expected options of links, such as --links.loss=0.1, got {other[0]}; leave it out")
    for name in line.own:
        if any(word.startswith(f"--links.{name}=") for word in line.overrides):
            raise ValueError(f"emulate: expected one of --{name} and --links.{name}, got both; leave one out")
    short = [f"--links.{name}={line.own[name]}" for name in LINKS if name in line.own]
    given = {name: positive(f"emulate: --{name}", line.own[name]) for name in ("samples", "window") if name in line.own}
    deadline = _seconds(line, "deadline")
    announce("emulating")
    from dist_hdnn.experiment.emulation import emulate_run
    from dist_hdnn.exporting.emulation import Plan

    plan = Plan(**given, kill=line.own.get("kill"), namespaces="--namespaces" in line.flags)
    protocol: Any = line.own.get("protocol", "udp")
    result = emulate_run(directory, plan, [*short, *line.overrides], protocol, deadline)
    _answer(line, result, lambda result: {str(directory): rows_of(result)})
    return 0


def _seconds(line: Line, name: str) -> float | None:
    """Return an option of a line that is a time, None without it. Raises ValueError."""
    from dist_hdnn.links.units import seconds

    return seconds(line.own[name], f"{line.command.name}: --{name}") if name in line.own else None


def predict(line: Line) -> int:
    directory = run_directory("predict", line.arguments[0])
    from dist_hdnn.run.predictions import check_output, write_predictions

    output = user_path(line.own["output"], "predict: --output") if "output" in line.own else None
    if output is not None:
        check_output(output)
    from dist_hdnn.build.trained import load_run

    run = load_run(directory)
    kept = [name.strip() for name in line.own.get("keep", "").split(",") if name.strip()]
    asked = "--probabilities" in line.flags, "--agents" in line.flags
    parts = run.answers(user_path(line.arguments[1], "predict"), kept)
    rows = write_predictions((run.table(part, *asked) for part in parts), output)
    if output is not None:
        print(f"predictions   {rows} rows, {output}")
    return 0


def doctor(line: Line) -> int:
    from dist_hdnn.doctor import examine

    sections, report = {}, {}
    for section, findings in examine().items():
        sections[section] = [(f"{'ok  ' if ok else '--  '}{name}", detail) for name, (ok, detail) in findings.items()]
        report[section] = {name: {"ok": ok, "detail": detail} for name, (ok, detail) in findings.items()}
    _answer(line, report, lambda _: sections)
    return 0
