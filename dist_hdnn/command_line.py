"""Reads the words of a command line: flags, --key=value options, a run directory, or a config with its overrides.

Every function raises UsageError, one line that names the command, for words that it cannot understand.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from pathlib import Path

from dist_hdnn.config import Config
from dist_hdnn.config.bundled import located
from dist_hdnn.config.checks import validate
from dist_hdnn.config.paths import user_path
from dist_hdnn.config.schema import children_of
from dist_hdnn.run.directory import find_run

HELPS = ("--help", "-h", "--help-all")
FLAGS = ("--json", "--print_config", *HELPS)

CONFIG_HELP = """\
CONFIG is a YAML file, or the name of one that comes with the package;
--key=value options override it. Without CONFIG: the swiss roll on a ring of 8
agents."""
COMMANDS = {
    "train": "Make a run: a directory with weights, metrics and plots.",
    "inspect": "Graph, patterns, bytes per link, memory and warnings of a run; no training.",
}
RUN_HELP = """\
RUN is a run directory, or the name of a run: runs/<name> or <name> is its
newest finished run."""


class UsageError(ValueError):
    """A command line that cannot be understood."""


def split(command: str, given: list[str], flags: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(positional arguments, options with their values); flags are dropped."""
    positional, options = [], []
    position = 0
    while position < len(given):
        word = given[position]
        position += 1
        if word in FLAGS:
            if word not in (*HELPS, *flags):
                raise UsageError(f"{command} takes no {word}")
            continue
        if not word.startswith("-"):
            positional.append(word)
            continue
        options.append(word)
        takes_value = "=" not in word and not word.endswith(".help")
        if takes_value and position < len(given) and given[position] not in FLAGS and given[position][:2] != "--":
            options.append(given[position])
            position += 1
    return positional, options


def asks_for_help(given: list[str]) -> bool:
    """Whether a command line asks for the help of its command."""
    return any(word in HELPS for word in given)


def own_options(
    command: str, options: list[str], names: tuple[str, ...], strict: bool = False
) -> tuple[dict[str, str], list[str]]:
    """(--name=value or --name value of these names, the other options); strict: there must be no others."""
    own: dict[str, str] = {}
    others: list[str] = []
    words = iter(options)
    for word in words:
        name, assigned, value = word.partition("=")
        if name[:2] != "--" or name[2:] not in names:
            if strict:
                near = difflib.get_close_matches(name.lstrip("-"), names, 1)
                remedy = f"did you mean --{near[0]}?" if near else f"options: {', '.join(f'--{key}' for key in names)}"
                raise UsageError(f"{command}: unknown option {word}; {remedy}")
            others.append(word)
            continue
        value = value if assigned else next(words, "")
        if not value:
            raise UsageError(f"{command}: {name} needs a value, as in {name}=...")
        own[name[2:]] = value
    return own, others


def refuse_misspelt(command: str, options: list[str], known: tuple[str, ...]) -> None:
    """Raise UsageError for an option that is none of a config and nearly one of the command's own, `known`."""
    for word in options:
        name = word.partition("=")[0]
        near = difflib.get_close_matches(name, known, 1, 0.85)
        if near and name[2:] not in children_of(Config) and "." not in name:
            raise UsageError(f"{command}: unknown option {name}; did you mean {near[0]}?")


def positive(key: str, text: str) -> int:
    """The whole number >= 1 that the value of an option is."""
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{key}: expected a whole number >= 1, got {text!r}; such as 16")
    return int(text)


def simple(command: str, given: list[str], usage: str, flags: tuple[str, ...], count: int) -> list[str] | None:
    """Positional arguments of a command without a config, or None when it asked for help."""
    positional, options = split(command, given, flags)
    if asks_for_help(given):
        print(usage)
        return None
    if options or len(positional) != count:
        odd = (options or positional[count:] or ["nothing"])[0]
        raise UsageError(f"{command}: got {odd}; {' '.join(usage.splitlines()[0].split())}")
    return positional


def run_directory(command: str, given: str) -> Path:
    """The run directory of a command that reads one, given by its path or by the run's name; says which it found."""
    try:
        directory = find_run(given)
    except ValueError as error:
        raise UsageError(f"{command}: {error}") from error
    if directory != user_path(given, command):
        print(f"dist-hdnn: {given} is the run {directory}", file=sys.stderr, flush=True)
    return directory


def config_of(command: str, given: list[str], flags: tuple[str, ...]) -> Config | None:
    """The validated config of a command line, or None when it asked for help or the config only."""
    positional, options = split(command, given, flags)
    if len(positional) > 1:
        raise UsageError(f"{command}: expected one config file, got {' and '.join(positional)}")
    path = located(positional[0]) if positional else None
    refuse_misspelt(command, options, (*HELPS, *flags))

    from dist_hdnn.config.files import check_document, check_overrides, config_parser, parse_config, to_yaml

    if path is not None:
        check_document(path)
    check_overrides(options)
    for word in options:
        if word.endswith(".help"):
            from dist_hdnn.config.option_help import help_of

            print(help_of(word.removeprefix("--").removesuffix(".help")))
            return None
    parser = config_parser(f"dist-hdnn {command}", path)
    if asks_for_help(given):
        _print_help(command, flags, parse_config(parser, options), "--help-all" in given)
        return None
    config = parse_config(parser, options)
    validate(config)
    if "--print_config" in given:
        print(to_yaml(config), end="")
        return None
    _check_graph_files(config)
    return config


def _print_help(command: str, flags: tuple[str, ...], config: Config, everything: bool) -> None:
    """The help of a command with a config, whose values are the defaults that it shows."""
    from dist_hdnn.config.option_help import bundled_help, option_help

    print(f"usage: dist-hdnn {command} [CONFIG] [--key=value ...]{''.join(f' [{flag}]' for flag in flags)}\n")
    print(f"{COMMANDS[command]}\n{CONFIG_HELP}\n{bundled_help()}\n")
    print(option_help(config, everything))
    print("\n--print_config prints the configuration that results, and stops.")
    if "--json" in flags:
        print("--json prints the answer as JSON.")


def _check_graph_files(config: Config) -> None:
    """Read the graph files, so that a damaged one is refused before torch is imported, which takes seconds."""
    files = [options for options in (config.graph, *config.more_graphs) if options.file is not None]
    if not files:
        return
    from dist_hdnn.topology import read_graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are said when the graph is built
        for options in files:
            read_graph(user_path(str(options.file), "graph.file"), options.format)
