"""Reading a `Config`: YAML file, then dotted overrides from the command line; and writing it back.

jsonargparse does the reading and the help. What a person can get wrong (a misspelt key, a value of the wrong type) is
looked for here first, in the file and in the overrides alike, because the answer should be one line that names the
full key, what it expects, what it got and the nearest known key.
"""

from __future__ import annotations

import copy
import dataclasses
import glob
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from dist_hdnn.config import Config, DataConfig, GraphConfig, PatternConfig
from dist_hdnn.config.documents import Ambiguous, as_written, load, read_yaml
from dist_hdnn.config.paths import user_path
from dist_hdnn.config.schema import Mismatch, built, check, children_of, describe, members_of, type_at

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def config_parser(prog: str, config_file: str | None = None) -> ArgumentParser:
    """Parser whose options are the fields of Config; values in config_file (checked before) become the defaults."""
    parser = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        default_config_files=[glob.escape(config_file)] if config_file else [],
    )
    parser.add_class_arguments(Config, None)
    return parser


def read_config(config_file: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Config from a YAML file (None: the defaults), then overrides such as ["--network.layers=32", "--seed", "1"].

    Raises ValueError, one line, for an unreadable file, an unknown key and a value of the wrong type. Call
    `checks.validate` on the result for values of the right type that cannot work.
    """
    path = None if config_file is None else str(config_file)
    if path is not None:
        check_document(path)
    check_overrides(overrides)
    parser = config_parser("dist-hdnn", path)
    return parse_config(parser, overrides)


def parse_config(parser: ArgumentParser, arguments: Sequence[str]) -> Config:
    """Parse overrides that were checked before, and raise any complaint left as a one-line ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = parser.instantiate(parser.parse_args(list(arguments)))
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return Config(**{field.name: values[field.name] for field in dataclasses.fields(Config)})


def config_from(document: Mapping[str, Any]) -> Config:
    """Config from nested options such as dataclasses.asdict gives; those that are absent have their defaults.

    Raises ValueError, one line, for an unknown key and a value of the wrong type; `checks.validate` asks more.
    """
    check(dict(document), Config, "")
    config = built(document, Config)
    assert isinstance(config, Config)
    return config


def check_value(key: str, value: Any) -> None:
    """Raise ValueError, one line, unless the dotted key names an option and value can become what it expects."""
    check(value, type_at(key), key)


def to_yaml(config: Config) -> str:
    """Return every option of config as YAML text that read_config accepts."""
    return str(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True, width=120))


def self_contained(config: Config) -> Config:
    """Return a copy that gives the same run from any directory: absolute paths, no run directory of its own."""
    copied = copy.deepcopy(config)
    copied.output = copied.resume = None
    parts: dict[str, GraphConfig | DataConfig | PatternConfig] = {"graph": copied.graph, "data": copied.data}
    parts |= {f"more_graphs[{i}]": graph for i, graph in enumerate(copied.more_graphs)}
    for key, part in (parts | {"network.K": copied.network.K, "network.X": copied.network.X}).items():
        if part.file:
            part.file = str(user_path(part.file, f"{key}.file").resolve())
    if copied.warm_start and (run := user_path(copied.warm_start, "warm_start")).exists():  # else the name of a run
        copied.warm_start = str(run.resolve())
    if copied.data.folder:
        copied.data.folder = str(user_path(copied.data.folder, "data.folder").resolve())
    return copied


def check_document(path: str, kind: Any = Config, key: str = "") -> None:
    """Raise ValueError, one line that starts with the path, unless path is a YAML file with known keys and right types.

    kind, key: the config dataclass the file describes and where it stands in Config.
    """
    document = read_yaml(path, "config")
    if document is None:
        raise ValueError(f"{path}: this config file is empty; expected keys such as {', '.join(children_of(kind))}")
    try:
        _check_text(Path(path).read_text(encoding="utf-8"), document, kind, key)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_text(text: str, value: Any, kind: Any, key: str) -> None:
    """Check a value read from YAML text; a message about a word that YAML reads as another value quotes the word."""
    try:
        check(value, kind, key)
    except Mismatch as error:
        raise error.quoting(as_written(text, error.key.removeprefix(key))) from None


def check_overrides(arguments: Sequence[str]) -> None:
    """Raise ValueError, one line, for the first of "--key=value" or "--key value" with an unknown key or wrong type."""
    position = 0
    while position < len(arguments):
        name, assigned, text = arguments[position].partition("=")
        position += 1
        if name.endswith(".help"):
            continue
        if not name.startswith("--"):
            raise ValueError(f"unexpected argument {name!r}; options are given as --key=value")
        key = name[2:].removesuffix("+")
        kind = type_at(key)
        if not assigned:
            if position == len(arguments) or arguments[position].startswith("--"):
                raise ValueError(f"--{key}: expected {describe(kind)}, got nothing; give a value as --{key}=...")
            text = arguments[position]
            position += 1
        if str not in members_of(kind):
            value = _load(f"--{key}", text)
            if dataclasses.is_dataclass(kind) and isinstance(value, str) and Path(value).is_file():
                check_document(value, kind, key)
            else:
                whole = name.endswith("+") and not isinstance(value, list)
                _check_text(f"[{text}]" if whole else text, [value] if whole else value, kind, key)


def _load(option: str, text: str) -> Any:
    """Value of one override; text that is not YAML stays text. Raises ValueError for a key given twice and for 010."""
    try:
        return load(text)
    except Ambiguous as error:
        raise ValueError(f"{option}: {error.problem}") from None
    except yaml.YAMLError:
        return text
