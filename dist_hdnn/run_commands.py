"""What each command does that takes a trained run: evaluate, certify, export and predict.

torch and numpy are imported after the words are read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dist_hdnn.command_line import (
    RUN_HELP,
    UsageError,
    asks_for_help,
    own_options,
    positive,
    run_directory,
    simple,
    split,
)
from dist_hdnn.config import Config, forget_workers
from dist_hdnn.config.checks import validate
from dist_hdnn.config.paths import user_path
from dist_hdnn.printing import print_json

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport


def evaluate(given: list[str]) -> int:
    usage = f"usage: dist-hdnn evaluate RUN [--json]\n\nAccuracy of a trained run.\n{RUN_HELP}"
    positional = simple("evaluate", given, usage, ("--json",), 1)
    if positional is None:
        return 0
    directory = run_directory("evaluate", positional[0])
    from dist_hdnn.experiment import tasks
    from dist_hdnn.printing import result_rows, show

    result = tasks.evaluate(directory)
    if "--json" in given:
        print_json(result)
    else:
        show({str(directory): result_rows(result)})
    return 0


CERTIFY_OPTIONS = ("workers", "transport", "partition.method", "timeout", "device", "train.threads")
CERTIFY_HELP = f"""\
usage: dist-hdnn certify RUN [--samples=N] [--workers=N] [--transport=T]
                         [--json]

What theory promises of a trained network, measured in float64 at N points of
its test set (default 16), and whether each promise is kept. Its directory gets
certificate.json and plots/sensitivity.png, layers.png and momentum.png.
{RUN_HELP}

Up to 256 neurons by whole matrices, above by random probes; the figures do not
depend on the workers. Also --partition.method, --timeout, --device and
--train.threads, as for train. Exit code 0 when no promise is broken, 8 when one
is."""


def certify(given: list[str]) -> int:
    if asks_for_help(given):
        print(CERTIFY_HELP)
        return 0
    positional, options = split("certify", given, ("--json",))
    values, _ = own_options("certify", options, ("samples", *CERTIFY_OPTIONS), strict=True)
    if len(positional) != 1:
        raise UsageError(f"certify: expected one run directory, got {' and '.join(positional) or 'none'}")
    directory = run_directory("certify", positional[0])
    samples = positive("certify: --samples", values.pop("samples", "16"))
    from dist_hdnn.launching import launcher
    from dist_hdnn.run.directory import config_of_run

    config = config_of_run(directory, [f"--{key}={value}" for key, value in values.items()])
    forget_workers(config, values)
    validate(config)
    launcher.prepare_environment(config)

    def run(config: Config, transport: Transport | None) -> int:
        from dist_hdnn.printing import announce, certificate_sections, show

        if transport is None or transport.rank == 0:
            announce("measuring")
        from dist_hdnn.experiment.certify import certify_run, complain

        found = certify_run(directory, config, samples, transport)
        if found is not None:
            if "--json" in given:
                print_json(found)
            else:
                show(certificate_sections(found) | {"files": [("pictures", str(directory / "plots"))]})
            sys.stdout.flush()
        if transport is not None:
            transport.barrier()  # nobody ends the others before worker 0 has told all
        if found is not None:
            complain(found)
        return 0

    return launcher.launch(given, config, run, ("-m", "dist_hdnn", "certify"))


EXPORT_USAGE = f"""\
usage: dist-hdnn export RUN [--output=DIR] [--agents=all|none|3,7]

A trained run as files that need no dist_hdnn: network.pt2 for
torch.export.load, model.safetensors, config.json, and for every agent its
weights, its neighbours and the rounds of messages that it takes part in.
{RUN_HELP}
  --output=DIR      a new or empty directory (default: RUN/export)
  --agents=LIST     agents that get files, by number or name (default: all; of
                    more than 1000 agents none)"""


def export(given: list[str]) -> int:
    positional, options = split("export", given, ())
    if asks_for_help(given):
        print(EXPORT_USAGE)
        return 0
    own, _ = own_options("export", options, ("output", "agents"), strict=True)
    if len(positional) != 1:
        raise UsageError(f"export: expected one run directory, got {' and '.join(positional) or 'none'}")
    run = run_directory("export", positional[0])
    which = own.get("agents", "").split(",")
    from dist_hdnn.printing import announce

    announce("exporting")
    from dist_hdnn.exporting.files import export_run

    chosen = {"": None, "all": "all", "none": []}.get(which[0], [word.strip() for word in which])
    output = export_run(run, Path(own.get("output") or run / "export"), chosen)
    print(f"exported      {output}")
    return 0


PREDICT_USAGE = f"""\
usage: dist-hdnn predict RUN FILE [--output=FILE] [--probabilities] [--agents]
                         [--keep=COLUMN,COLUMN]

Answers of a trained run about the rows of a file of raw readings: .csv or
.parquet, whose columns are found by name, .npz (array x) or .npy. Classes are
answered by name, targets in their own units; `row` counts from 0.
{RUN_HELP}
  --output=FILE     .csv, .parquet or .npz, a new file (default: CSV on stdout)
  --probabilities   of every class; the agents' mean where agents answer
  --agents          what every agent answers by itself
  --keep=COLUMNS    columns that are no features, passed through"""


def predict(given: list[str]) -> int:
    asked = [word for word in given if word in ("--probabilities", "--agents")]
    positional, options = split("predict", [word for word in given if word not in asked], ())
    if asks_for_help(given):
        print(PREDICT_USAGE)
        return 0
    own, _ = own_options("predict", options, ("output", "keep"), strict=True)
    if len(positional) != 2:
        raise UsageError(f"predict: expected RUN and FILE, got {' and '.join(positional) or 'nothing'}")
    directory = run_directory("predict", positional[0])
    from dist_hdnn.run.predictions import check_output, write_predictions

    output = user_path(own["output"], "predict: --output") if "output" in own else None
    if output is not None:
        check_output(output)
    from dist_hdnn.build.trained import load_run

    run, kept = load_run(directory), [name.strip() for name in own.get("keep", "").split(",") if name.strip()]
    parts = run.answers(user_path(positional[1], "predict"), kept)
    rows = write_predictions(
        (run.table(part, "--probabilities" in asked, "--agents" in asked) for part in parts), output
    )
    if output is not None:
        print(f"predictions   {rows} rows, {output}")
    return 0
