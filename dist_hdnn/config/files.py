"""A `Config` from a YAML file and dotted overrides, and back to YAML.

File and overrides are checked alike by `schema.built`, because what a person can get wrong (a misspelt key, a value of
the wrong type) deserves one line that names the full key, what it expects, what it got and the nearest known key.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from dist_hdnn.config import Config, DataConfig, GraphConfig, PatternConfig
from dist_hdnn.config.documents import Ambiguous, as_written, load, read_yaml
from dist_hdnn.config.paths import user_path
from dist_hdnn.config.schema import Mismatch, built, children_of, describe, members_of, type_at


def read_config(config_file: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a config file (None: the defaults), then overrides such as ["--network.layers=32", "--seed", "1"].

    Raises ValueError, one line, for an unreadable file, an unknown key and a value of the wrong type. Call
    `checks.validate` on the result for values of the right type that cannot work.
    """
    config = Config() if config_file is None else built(_document(str(config_file), Config, ""), Config)
    return overridden(config, overrides)


def overridden(config: Config, overrides: Sequence[str]) -> Config:
    """Return config with overrides. Raises ValueError as `read_config` does."""
    values = dataclasses.asdict(config)
    for key, value, appends in _read_overrides(overrides):
        path = key.split(".")
        if appends:
            value = [*functools.reduce(operator.getitem, path, values), *value]
        for part in reversed(path):
            value = {part: value}
        values = _over(values, value, Config)
    return typing.cast(Config, built(values, Config))


def _over(values: Any, options: Any, kind: Any) -> Any:
    """Put options over values: those of a config dataclass one by one, anything else as a whole."""
    if not dataclasses.is_dataclass(kind):
        return options
    children = children_of(kind)
    return values | {name: _over(values[name], item, children[name]) for name, item in options.items()}


def config_from(document: Mapping[str, Any]) -> Config:
    """Make a config of nested options such as dataclasses.asdict gives, absent ones at their defaults.

    Raises ValueError, one line, for an unknown key and a value of the wrong type; `checks.validate` asks more.
    """
    return typing.cast(Config, built(document, Config))


def check_value(key: str, value: Any) -> None:
    """Raise ValueError, one line, unless the dotted key names an option and value can become what it expects."""
    built(value, type_at(key), key)


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


def _document(path: str, kind: Any, key: str) -> Any:
    """Read the options of the config dataclass `kind` at `key` from a YAML file, which an error names first."""
    document = read_yaml(path, "config")
    if document is None:
        raise ValueError(f"{path}: this config file is empty; expected keys such as {', '.join(children_of(kind))}")
    try:
        _check_text(Path(path).read_text(encoding="utf-8"), document, kind, key)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return document


def _check_text(text: str, value: Any, kind: Any, key: str) -> None:
    """Check a value from YAML text, and quote in the message a word that YAML reads as another value."""
    try:
        built(value, kind, key)
    except Mismatch as error:
        raise error.quoting(as_written(text, error.key.removeprefix(key))) from None


def _read_overrides(arguments: Sequence[str]) -> Iterator[tuple[str, Any, bool]]:
    """Yield (key, value, appended) of each "--key=value", "--key value" and "--key+=value".

    Raises ValueError, one line, for an unknown key and a value of the wrong type. Skips "--key.help".
    """
    words = iter(arguments)
    for word in words:
        name, assigned, text = word.partition("=")
        if name.endswith(".help"):
            continue
        if not name.startswith("--"):
            raise ValueError(f"unexpected argument {name!r}; options are given as --key=value")
        key = name[2:].removesuffix("+")
        kind = type_at(key)
        if not assigned:
            text = next(words, "--")
            if text.startswith("--"):
                raise ValueError(f"--{key}: expected {describe(kind)}, got nothing; give a value as --{key}=...")
        yield key, _value(key, kind, text, name.endswith("+")), name.endswith("+")


def _value(key: str, kind: Any, text: str, appends: bool) -> Any:
    """Return the value of an override: of a text option the text, of a config dataclass also a file's options."""
    if {float, str} <= set(members_of(kind)):
        with suppress(ValueError):  # else a number with its unit
            return float(text)
    if str in members_of(kind) and not appends:
        return None if type(None) in members_of(kind) and _is_null(text) else text
    try:
        value = load(text)
    except Ambiguous as error:
        raise ValueError(f"--{key}: {error.problem}") from None
    except yaml.YAMLError:
        value = text
    if value is None and not text.strip():
        raise Mismatch(None, kind, key)
    if dataclasses.is_dataclass(kind) and isinstance(value, str) and Path(value).is_file():
        return _document(value, kind, key)
    if appends and not isinstance(value, list):
        text, value = f"[{text}]", [value]
    _check_text(text, value, kind, key)
    return value


def _is_null(text: str) -> bool:
    """Tell whether YAML reads the text as null, other than no text at all."""
    try:
        return bool(text.strip()) and load(text) is None
    except yaml.YAMLError:
        return False
