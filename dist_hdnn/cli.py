"""The `dist-hdnn` command: finds the one of `commands` that is meant, and makes its errors one line.

torch and numpy are imported after the command line is read, so `--help` and a misspelt option answer at once. Exit
codes: 0 done, 2 usage, config, graph or data, 7 disk, 130 interrupted; an exception with an attribute `exit_code`
chooses its own (4 unusable checkpoint, 6 non-finite numbers, 8 a certificate with a broken promise).
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from dist_hdnn import __version__, commands, run_commands
from dist_hdnn.command_line import UsageError
from dist_hdnn.streams import open_standard_streams, outlasting_readers

HELP = f"""\
usage: dist-hdnn COMMAND ...

Hamiltonian deep networks on networked agents, version {__version__}.

  train [CONFIG] [--key=value ...]    make a run: weights, metrics, plots
  inspect [CONFIG] [--key=value ...]  graph, bytes per link, memory; no training
  evaluate RUN                        accuracy of a trained run
  certify RUN                         what theory promises of it, measured
  study STUDY [--key=value ...]       many runs along axes of a config: a table
  predict RUN FILE                    answers of a run about a file of readings
  export RUN [--output=DIR]           a run as files that need no dist_hdnn
  doctor                              versions, threads, transports, GPU, access
  --version

CONFIG and STUDY are YAML files, or names of those that come with the package;
RUN is the directory or the name of a run.
Options of a command: dist-hdnn train --help
Example: dist-hdnn train swiss_roll_ring8 --seed=1

Exit codes: 0 done, 2 usage, config or file, 3 workers disagree, 4 checkpoint
unusable, 5 a worker lost, 6 numbers not finite, 7 disk, 8 a broken promise,
75 stopped with a checkpoint, 130 interrupted"""

USAGE_ERROR, DISK, INTERRUPTED, READER_GONE = 2, 7, 130, 141


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. arguments: without the program's name (None: from the shell)."""
    given = list(sys.argv[1:]) if arguments is None else list(arguments)
    open_standard_streams()
    try:
        with _plain_warnings(), outlasting_readers() if given[:1] in (["train"], ["study"]) else nullcontext():
            return _dispatch(given)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has gone, as in `dist-hdnn inspect | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Exception as error:
        code = _exit_code(error, given)
        if code is None or sys.flags.dev_mode:  # a bug of ours, or `python -X dev -m dist_hdnn`: show where
            raise
        notes = getattr(error, "__notes__", [])  # which worker failed first
        return _fail("; ".join([str(error) or type(error).__name__, *notes]), code)


def _exit_code(error: Exception, given: list[str]) -> int | None:
    """Exit code for an expected error, None for a bug."""
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return own
    if isinstance(error, ValueError):
        return USAGE_ERROR
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
        return DISK if full or given[:1] == ["train"] else USAGE_ERROR
    return None


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # where nothing can be written, the code alone says it
        print(f"dist-hdnn: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning as one line, without the place in the source, and the same one once."""
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in said:
            print(f"warning: {text}", file=sys.stderr)
        said.add(text)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _dispatch(given: list[str]) -> int:
    known: dict[str, Callable[[list[str]], int]] = {
        "train": commands.train,
        "inspect": commands.inspect,
        "evaluate": run_commands.evaluate,
        "certify": run_commands.certify,
        "study": commands.study,
        "export": run_commands.export,
        "predict": run_commands.predict,
        "doctor": commands.doctor,
    }
    if not given:
        print(HELP, file=sys.stderr)
        return USAGE_ERROR
    command, rest = given[0], given[1:]
    if command in ("--help", "-h", "help"):
        print(HELP)
        return 0
    if command == "--version":
        print(f"dist-hdnn {__version__}")
        return 0
    if command not in known:
        near = difflib.get_close_matches(command, known, 1, 0.7)
        remedy = f"did you mean {near[0]}?" if near else f"commands: {', '.join(known)}"
        raise UsageError(f"unknown command {command!r}; {remedy}")
    return known[command](rest)
