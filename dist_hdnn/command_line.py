"""The words of a command line by kind: flags, a command's own options, overrides of a config, a run directory.

Written by hand, because argparse takes the value of an option that it does not know for a positional argument. Every
function raises ValueError, one line that names the command, for words that it cannot understand.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dist_hdnn.config import ELSEWHERE, Config
from dist_hdnn.config.checks import validate
from dist_hdnn.config.paths import located, user_path
from dist_hdnn.config.schema import children_of
from dist_hdnn.run.directory import find_run, newest_unfinished_run, weights_of_run

HELPS = ("--help", "-h", "--help-all")
FLAGS = ("--json", "--print_config")  # of some commands; no option of a config


@dataclass(frozen=True)
class Line:
    """A command line by kind of word.

    arguments: words without a dash. flags: such as --json. own: name -> value of the command's own options.
    overrides: every other option, as --key=value.
    """

    command: Command
    words: list[str]
    arguments: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    own: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    @property
    def asks_for_help(self) -> bool:
        return not self.flags.isdisjoint(HELPS)


class Command:
    """A command of `dist-hdnn`. Its help, which opens with its usage, declares the words that it takes.

    RUN, [CONFIG]: arguments, the second optional. [--json]: a flag. [--samples=N]: an option. [--key=value ...]: every
    other option is one of a config.
    """

    def __init__(self, run: Callable[[Line], int], help: str) -> None:
        self.run, self.help = run, help
        self.usage = " ".join(help.partition("\n\n")[0].split())
        self.config = "[--key=value ...]" in self.usage
        _, _, self.name, *words = self.usage.replace("[--key=value ...]", "").split()
        own = [word.strip("[]") for word in words if "--" in word]
        self.arguments = [word for word in words if "--" not in word]
        self.flags = [word for word in own if "=" not in word]
        self.options = [word.partition("=")[0] for word in own if "=" in word]

    @property
    def shows_config(self) -> bool:
        """Tell whether its help shows the options of a config."""
        return self.arguments == ["[CONFIG]"]

    def read(self, words: list[str]) -> Line:
        """Sort words by kind and check their number and names. A value stands as --key=value or as --key value."""
        line, left = Line(self, words), list(reversed(words))
        while left:
            word = left.pop()
            name, assigned, value = word.partition("=")
            if word in (*self.flags, *HELPS):
                line.flags.add(word)
                continue
            if word in FLAGS:
                raise ValueError(f"{self.name} takes no {word}")
            if not word.startswith("-"):
                line.arguments.append(word)
                continue
            follows = left and not left[-1].startswith("--") and left[-1] not in HELPS
            if not assigned and follows and not word.endswith(".help"):
                value = left.pop()
                word = f"{name}={value}"
            if name not in self.options:
                line.overrides.append(word)
            elif value:
                line.own[name[2:]] = value
            else:
                raise ValueError(f"{self.name}: {name} needs a value, as in {name}=...")
        if not line.asks_for_help:
            self._check(line)
        return line

    def _check(self, line: Line) -> None:
        """Raise ValueError for too few or too many arguments, and for an option nearly or wholly unknown."""
        least = sum(name[0] != "[" for name in self.arguments)
        if not least <= len(line.arguments) <= len(self.arguments):
            expected, got = (" and ".join(words) for words in (self.arguments, line.arguments))
            raise ValueError(f"{self.name}: expected {expected or 'no argument'}, got {got or 'nothing'}; {self.usage}")
        known = (*HELPS, *self.flags, *self.options)
        for word in line.overrides:
            name = word.partition("=")[0]
            near = difflib.get_close_matches(name, known, 1, 0.85 if self.config else 0.6)
            if self.config and (not near or name[2:] in children_of(Config) or "." in name):
                continue
            remedy = f"did you mean {near[0]}?" if near else f"options: {', '.join(known[len(HELPS) :]) or 'none'}"
            raise ValueError(f"{self.name}: unknown option {name}; {remedy}")


def positive(key: str, text: str) -> int:
    """Return the whole number >= 1 that an option has as its value."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{key}: expected a whole number >= 1, got {text!r}; such as 16")
    return int(text)


def run_directory(command: str, run: str) -> Path:
    """Return the directory of a run by its path or name, and say on stderr which run a name stands for."""
    try:
        directory = find_run(run)
    except ValueError as error:
        raise ValueError(f"{command}: {error}") from error
    if directory != user_path(run, command):
        print(f"dist-hdnn: {run} is the run {directory}", file=sys.stderr, flush=True)
    return directory


def options_of(line: Line) -> dict[str, str]:
    """Return the overrides of a line by name, with "" for one without a value."""
    return {name[2:]: value for name, _, value in (word.partition("=") for word in line.overrides)}


def with_warm_start(line: Line) -> list[str]:
    """Return the words of `train` with --from=RUN as --warm_start=PATH, where RUN may be the name of a run."""
    words = [f"--warm_start{word[6:]}" if word.split("=")[0] == "--from" else word for word in line.words]
    line = line.command.read(words)
    run = options_of(line).get("warm_start")
    if run is None:
        return words
    if not run:
        raise ValueError("train: --from needs a value, as in --from=RUN")
    others = [word for word in line.overrides if not word.startswith("--warm_start")]
    return [*line.arguments, *sorted(line.flags), *others, f"--warm_start={weights_of_run(run)[1]}"]


def as_tuned(line: Line) -> list[str]:
    """Return the words of `tune` as those of `train`: the run's config, its weights, the name with _tuned, the rest."""
    from dist_hdnn.config.files import read_config

    directory = run_directory(line.command.name, line.arguments[0]).resolve()
    file = directory / "config.yaml"
    name = f"{read_config(file).name.removesuffix('_tuned')}_tuned"
    return [str(file), f"--name={name}", *line.overrides, *sorted(line.flags), f"--warm_start={directory}"]


def with_config_of_run(line: Line) -> list[str]:
    """Return the words of `train`, whose CONFIG is by default that of the run to resume or to start from.

    The run to resume is given by --resume=RUN or CHECKPOINT, or by --output. --resume=auto without them, and without
    any option that a run cannot change, is the newest unfinished run below runs/.
    """
    options = options_of(line)
    resume = options.get("resume")
    if line.arguments or (resume is None and "warm_start" not in options):
        return line.words
    if resume is None:
        return [str(weights_of_run(options["warm_start"])[0] / "config.yaml"), *line.words]
    if resume == "auto" and options.keys().isdisjoint(("output", "warm_start")):
        if all(key.split(".")[0] in {"resume", *ELSEWHERE} for key in options):
            newest = newest_unfinished_run()
            if newest is None:
                raise ValueError("train: expected an unfinished run below runs/ to resume, got none; give a CONFIG")
            return [str(newest / "config.yaml"), *line.words]
    named = options.get("output", "") if resume == "auto" else resume
    path = user_path(named, "train")
    for directory in (path, *list(path.resolve().parents)[1:2]):  # a run, or the run of a checkpoint
        if named and (directory / "config.yaml").is_file():
            return [str(directory / "config.yaml"), *line.words]
    return line.words


def config_of(command: Command, words: list[str]) -> Config | None:
    """Return the validated config of a command line, or None once its help or the config itself is printed."""
    line = command.read(words)
    path = located(line.arguments[0]) if line.arguments else None

    from dist_hdnn.config.files import read_config, to_yaml

    config = read_config(path, line.overrides)
    for word in line.overrides:
        if word.endswith(".help"):
            from dist_hdnn.config.option_help import help_of

            print(help_of(word.removeprefix("--").removesuffix(".help")))
            return None
    if line.asks_for_help:
        from dist_hdnn.config.option_help import bundled_help, option_help

        print(f"{command.help}\n{bundled_help()}\n\n{option_help(config, '--help-all' in line.flags)}")
        print("\n--print_config prints the resulting config and stops.")
        if "--json" in command.flags:
            print("--json prints the answer as JSON.")
        return None
    validate(config)
    if "--print_config" in line.flags:
        print(to_yaml(config), end="")
        return None
    _check_graph_files(config)
    return config


def _check_graph_files(config: Config) -> None:
    """Read the graph files, to refuse a damaged one before torch is imported, which takes seconds."""
    files = [options for options in (config.graph, *config.more_graphs) if options.file is not None]
    if not files:
        return
    from dist_hdnn.topology import read_graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown when the graph is built
        for options in files:
            read_graph(user_path(str(options.file), "graph.file"), options.format)
