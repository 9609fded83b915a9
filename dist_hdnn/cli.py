"""The `dist-hdnn` command: its words, help and exit codes.

torch and numpy are imported after the command line is read, so `--help` and a misspelt option answer at once.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from dist_hdnn import __version__, commands
from dist_hdnn.command_line import Command
from dist_hdnn.config.paths import names
from dist_hdnn.launching.worker import BUG, DISK, INTERRUPTED, READER_GONE, USAGE, verdict
from dist_hdnn.streams import open_standard_streams, outlasting_readers

HELP = f"""\
usage: dist-hdnn COMMAND ...

Hamiltonian deep networks on networked agents, version {__version__}.

  train [CONFIG] [--key=value ...]    make a run: weights, metrics, plots
  inspect [CONFIG] [--key=value ...]  graph, bytes per link, memory; no training
  tune RUN [--key=value ...]          train a run on, as for worse links
  evaluate RUN                        accuracy of a trained run
  robustness RUN                      accuracy over links that lose and delay
  certify RUN                         measure what theory promises of a run
  study STUDY [--key=value ...]       many runs along axes of a config: a table
  predict RUN FILE                    answers of a run for a file of readings
  export RUN [--output=DIR]           a run as files that need no dist_hdnn
  emulate RUN [--loss=P] [--kill=AGENT]
                                      agents as processes on lossy links
  doctor                              versions, threads, transports, GPU, access
  --version

CONFIG and STUDY are YAML files, or names of those that come with the package;
RUN is the directory or the name of a run.
Options of a command: dist-hdnn train --help
Example: dist-hdnn train swiss_roll_ring8 --seed=1

Exit codes: 0 done, 2 usage, config or file, 3 workers disagree, 4 checkpoint
unusable, 5 a worker lost, 6 numbers not finite, 7 disk, 8 a broken promise,
75 stopped with a checkpoint, 130 interrupted"""

CONFIG_HELP = """\
CONFIG is a YAML file, or the name of one that comes with the package;
--key=value options override it. Without CONFIG: the swiss roll on a ring of 8
agents."""

RUN_HELP = """\
RUN is a run directory, or the name of a run: runs/<name> or <name> is its
newest finished run."""

TRAIN_HELP = f"""\
usage: dist-hdnn train [CONFIG] [--key=value ...] [--print_config]

Make a run: a directory with weights, metrics and plots.
{CONFIG_HELP}"""

INSPECT_HELP = f"""\
usage: dist-hdnn inspect [CONFIG] [--key=value ...] [--json] [--print_config]

Graph, patterns, bytes per link, memory and warnings of a run; no training.
{CONFIG_HELP}"""

TUNE_HELP = f"""\
usage: dist-hdnn tune RUN [--key=value ...] [--print_config]

Train a run on under other options, as for links that lose slices: a new run
NAME_tuned that starts from its weights and has its config, except for the
--key=value options.
{RUN_HELP}
Example: dist-hdnn tune swiss_roll_ring8 --links.loss=0.3 --links.ramp=uniform
Options: dist-hdnn train --help; of the links: dist-hdnn train --links.help"""

EVALUATE_HELP = f"""\
usage: dist-hdnn evaluate RUN [--json]

Accuracy of a trained run.
{RUN_HELP}"""

ROBUSTNESS_HELP = f"""\
usage: dist-hdnn robustness RUN [--loss=0,0.1,0.3] [--burst=2,4] [--outage=0.1]
                         [--delay=0,1,0-2] [--bits=8,4,2] [--dead=each]
                         [--repetitions=3] [--samples=N] [--fill=F] [--json]

Accuracy of a trained run on its test data over impaired links, one impairment
at a time, all else perfect. Writes robustness.json and plots/robustness.png
into the run directory.
{RUN_HELP}
With one or more of these only they are measured, by default all:
  --loss=P,...      slices lost, each by itself (default: 0,0.1,0.2,0.3,0.6)
  --burst=L,...     30 % lost in runs of a mean of L layers (default: 2,4,8)
  --outage=P,...    links down for whole samples (default: 0.1,0.3)
  --delay=K,A-B     slices late by K layers, or by A to B, drawn per link and
                    sample (default: 1,2,0-2)
  --bits=B,...      bits per value (default: 8,4,3,2)
  --dead=each       each agent down in turn, of more than 32 a sample of 32; or
                    some, by number or name
  --repetitions=N   evaluations of a point, each with fates of its own
                    (default: 3; one where nothing is random)
  --samples=N       points of the test data, spread evenly (default: all)
  --fill=F          in place of a lost slice (default: as trained)"""

CERTIFY_HELP = f"""\
usage: dist-hdnn certify RUN [--json] [--samples=N] [--workers=N]
                         [--transport=T] [--partition.method=M] [--timeout=S]
                         [--device=D] [--train.threads=N]

Measures in float64, at N points of the test set (default 16), what theory
promises of a trained network, and whether each promise is kept. Writes
certificate.json and plots/sensitivity.png, layers.png and momentum.png into
the run directory.
{RUN_HELP}

Whole matrices up to 256 neurons, random probes above; the figures do not
depend on the workers. All options but --samples are those of train.
Exit code 0 when no promise is broken, else 8."""

STUDY_HELP = f"""\
usage: dist-hdnn study STUDY [--output=DIR] [--parallel=N] [--trials=N]
                       [--max-trials=N] [--retry-failed] [--key=value ...]

A trade-off study: trains the network of a base config along axes of its
options, each trial in its own process. STUDY is a YAML file, or the name of
one of these, which come with the package:
  {", ".join(names("study"))}
--key=value options override its base config. The same command resumes a study
that was stopped.
  --output=DIR      folder of the study (default: runs/studies/<name>)
  --parallel=N      trials at once (default: the number of cores)
  --trials=N        trials of a random or Optuna search
  --max-trials=N    run at most N trials now; the same command runs the rest
  --retry-failed    run failed trials again"""

EXPORT_HELP = f"""\
usage: dist-hdnn export RUN [--output=DIR] [--agents=all|none|3,7] [--runtime]
                        [--protocol=udp|tcp] [--deadline=T] [--fill=F]

Export a trained run as files that need no dist_hdnn: network.pt2 for
torch.export.load, model.safetensors, config.json, and for every agent its
weights, its neighbors and the rounds of messages that it takes part in.
{RUN_HELP}
  --output=DIR      a new or empty directory (default: RUN/export)
  --agents=LIST     agents that get files, by number or name (default: all; none
                    of more than 1000 agents)
  --runtime         instead, a folder per agent (default: RUN/runtime) with a
                    program that needs Python and numpy, and the addresses of
                    its neighbors: docs/field.md
  --protocol=udp    of the runtime: udp or tcp
  --deadline=50ms   of a round; a slice that is later is lost
  --fill=F          in place of a lost slice: zero, own, hold or predict
                    (default: as trained)"""

EMULATE_HELP = f"""\
usage: dist-hdnn emulate RUN [--samples=N] [--loss=P] [--latency=T] [--jitter=T]
                         [--seed=N] [--deadline=T] [--fill=F] [--protocol=P]
                         [--kill=AGENT] [--window=N] [--namespaces] [--json]
                         [--key=value ...]

Starts every agent of a run as a process that talks to its neighbors alone, and
lets them answer test samples over links that lose and delay messages. Prints
accuracy, bytes and seconds per sample beside those of the network over the same
links (lab) and of a virtual clock, and writes emulation.json into the run
directory.
{RUN_HELP}
  --samples=50      samples of the test set
  --loss=P          share of messages that are lost, such as 0.1
  --latency=T       of a message, such as 5ms
  --jitter=T        its deviation
  --fill=F          in place of a lost slice: zero, own, hold or predict
  --seed=N          of losses and delays
  --links.KEY=V     these and others of the links (default: as trained)
  --deadline=T      of a round (default: 2 latencies, 6 jitters, and 6 ms per agent
                    and core, at least 20 ms)
  --protocol=udp    udp or tcp
  --kill=AGENT      an agent, by number or name, that dies after half of them
  --window=N        samples at a time (default: 1; with losses 8, unless one dies)
  --namespaces      a host for every agent and a cable for every link, with no
                    route to others; needs Linux and CAP_NET_ADMIN"""

PREDICT_HELP = f"""\
usage: dist-hdnn predict RUN FILE [--output=FILE] [--probabilities] [--agents]
                         [--keep=COLUMN,COLUMN]

Answers of a trained run for the rows of a file of raw readings: .csv or
.parquet, whose columns are found by name, .npz (array x) or .npy. Classes are
answered by name, targets in their own units; `row` counts from 0.
{RUN_HELP}
  --output=FILE     .csv, .parquet or .npz, a new file (default: CSV on stdout)
  --probabilities   of every class; the mean over the agents where agents answer
  --agents          the answer of every single agent
  --keep=COLUMNS    columns that are no features, passed through"""

DOCTOR_HELP = "usage: dist-hdnn doctor [--json]\n\nVersions, threads, transports, GPU and write access of this machine."

COMMANDS = {
    command.name: command
    for command in (
        Command(commands.train, TRAIN_HELP),
        Command(commands.inspect, INSPECT_HELP),
        Command(commands.tune, TUNE_HELP),
        Command(commands.evaluate, EVALUATE_HELP),
        Command(commands.robustness, ROBUSTNESS_HELP),
        Command(commands.certify, CERTIFY_HELP),
        Command(commands.study, STUDY_HELP),
        Command(commands.export, EXPORT_HELP),
        Command(commands.emulate, EMULATE_HELP),
        Command(commands.predict, PREDICT_HELP),
        Command(commands.doctor, DOCTOR_HELP),
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code. arguments: without the program's name (None: from the shell)."""
    words = list(sys.argv[1:]) if arguments is None else list(arguments)
    open_standard_streams()
    try:
        with (
            _plain_warnings(),
            outlasting_readers() if words[:1] in (["train"], ["tune"], ["study"]) else nullcontext(),
        ):
            return _dispatch(words)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has gone, as in `dist-hdnn inspect | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Exception as error:
        code, text = verdict(error)
        if code == BUG or sys.flags.dev_mode:  # `python -X dev -m dist_hdnn` shows where
            raise
        if code == DISK and isinstance(error, OSError) and not _full(error) and words[:1] not in (["train"], ["tune"]):
            code = USAGE  # a file that was named on the command line
        return _fail(text, code)


def _full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # where nothing can be written, the exit code says it
        print(f"dist-hdnn: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show each warning once, as one line without the place in the source."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in shown:
            print(f"warning: {text}", file=sys.stderr)
        shown.add(text)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _dispatch(words: list[str]) -> int:
    if not words:
        print(HELP, file=sys.stderr)
        return USAGE
    name, rest = words[0], words[1:]
    if name in ("--help", "-h", "help"):
        print(HELP)
        return 0
    if name == "--version":
        print(f"dist-hdnn {__version__}")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, 1, 0.7)
        remedy = f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}"
        raise ValueError(f"unknown command {name!r}; {remedy}")
    line = command.read(rest)
    if line.asks_for_help and not command.shows_config:
        print(command.help)
        return 0
    return command.run(line)
