"""Reading a `Config`: YAML file, then dotted overrides from the command line; and writing it back.

jsonargparse does the reading and the help. What a person can get wrong (a misspelt key, a value of the wrong type) is
looked for here first, in the file and in the overrides alike, because the answer should be one line that names the
full key, what it expects, what it got and the nearest known key.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import glob
import math
import types
import typing
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from dist_hdnn.config import Config, DataConfig, GraphConfig, PatternConfig

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def config_parser(prog: str, usage: str, description: str, config_file: str | None = None) -> ArgumentParser:
    """Parser whose options are the fields of Config; values in config_file (checked before) become the defaults."""
    parser = ArgumentParser(
        prog=prog,
        usage=usage,
        description=description,
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
    parser = config_parser("dist-hdnn", "", "", path)
    return parse_config(parser, overrides)


def parse_config(parser: ArgumentParser, arguments: Sequence[str]) -> Config:
    """Let the parser read overrides that were checked before; any complaint left becomes a one-line ValueError."""
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
    _check(dict(document), Config, "")
    config = _built(document, Config)
    assert isinstance(config, Config)
    return config


def check_value(key: str, value: Any) -> None:
    """Raise ValueError, one line, unless the dotted key names an option and value can become what it expects."""
    _check(value, _type_at(key), key)


def to_yaml(config: Config) -> str:
    """Every option of config as YAML text that read_config accepts."""
    return str(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True, width=120))


def self_contained(config: Config) -> Config:
    """Copy of config that gives the same run from any directory: absolute paths, and no run directory of its own."""
    copied = copy.deepcopy(config)
    copied.output = copied.resume = None
    parts: list[GraphConfig | DataConfig | PatternConfig] = [copied.graph, *copied.more_graphs]
    parts += [copied.data, copied.network.K, copied.network.X]
    for part in parts:
        if part.file:
            part.file = str(Path(part.file).expanduser().resolve())
    if copied.data.folder:
        copied.data.folder = str(Path(copied.data.folder).expanduser().resolve())
    return copied


def read_yaml(path: str, what: str, examples: str) -> Any:
    """What a YAML file holds. Raises ValueError, one line that says `what` file it is and where `examples` are."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such {what} file; see {examples} for examples") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: expected a YAML {what} file, got a directory") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot read this {what} file: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a YAML {what} file in UTF-8, got a binary file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "it holds characters that YAML does not allow"
        raise ValueError(f"{path}: {where}not valid YAML: {' '.join(str(problem).split())}") from None


def check_document(path: str, kind: Any = Config, key: str = "") -> None:
    """Raise ValueError, one line that starts with the path, unless path is a YAML file with known keys and right types.

    kind, key: the config dataclass the file describes and where it stands in Config.
    """
    document = read_yaml(path, "config", "configs/")
    if document is None:
        raise ValueError(f"{path}: this config file is empty; expected keys such as {', '.join(_children(kind))}")
    try:
        _check(document, kind, key)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


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
        kind = _type_at(key)
        if not assigned:
            if position == len(arguments) or arguments[position].startswith("--"):
                raise ValueError(f"--{key}: expected {_describe(kind)}, got nothing; give a value as --{key}=...")
            text = arguments[position]
            position += 1
        if str not in _members(kind):
            value = _load(text)
            if dataclasses.is_dataclass(kind) and isinstance(value, str) and Path(value).is_file():
                check_document(value, kind, key)
            else:
                _check([value] if name.endswith("+") and not isinstance(value, list) else value, kind, key)


def _built(value: Any, kind: Any) -> Any:
    """A value that passed `_check`, with its config dataclasses made and its numbers in their types."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if len(_members(kind)) > 1:
        fitting = [member for member in arguments if _shape(member) is type(value)]
        return _built(value, fitting[0] if fitting else float if float in arguments and value is not None else None)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        children = {name: child for name, child in _children(kind).items() if name in value}
        return typing.cast(type, kind)(**{name: _built(value[name], child) for name, child in children.items()})
    if origin is list and isinstance(value, list):
        return [_built(item, arguments[0]) for item in value]
    return float(value) if kind is float else copy.deepcopy(value)


def _shape(kind: Any) -> Any:
    """The type that YAML gives for values of a type."""
    return dict if dataclasses.is_dataclass(kind) else typing.get_origin(kind) or kind


def _load(text: str) -> Any:
    """Value of one override; text that is not YAML stays text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _children(kind: Any) -> dict[str, Any]:
    """Field -> type of a config dataclass, nothing for other types."""
    return typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}


def _members(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union; any other type alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _type_at(key: str) -> Any:
    kind: Any = Config
    done = ""
    for part in key.split("."):
        if part not in _children(kind):
            raise _unknown(key, part, kind, done)
        kind = _children(kind)[part]
        done += f"{part}."
    return kind


def _all_keys(kind: Any = Config, prefix: str = "") -> list[str]:
    own = [f"{prefix}{name}" for name in _children(kind)]
    return own + [key for name, child in _children(kind).items() for key in _all_keys(child, f"{prefix}{name}.")]


def _unknown(key: str, name: str, kind: Any, prefix: str) -> ValueError:
    """The error for an unknown key: the nearest name beside it, else the same name elsewhere, else what is known.

    name: the unknown part of key, after prefix and inside the config dataclass 'kind'.
    """
    siblings = list(_children(kind))
    rest = key.removeprefix(f"{prefix}{name}")  # what follows the misspelt part, as in grahp.agents
    near = [f"{prefix}{found}{rest}" for found in difflib.get_close_matches(name, siblings, 1, 0.6)]
    near = near or [known for known in _all_keys() if known.split(".")[-1] == key.split(".")[-1]]
    near = near or difflib.get_close_matches(key, _all_keys(), 1, 0.6)
    if near:
        return ValueError(f"unknown key {key}; did you mean {near[0]}?")
    if siblings:
        return ValueError(f"unknown key {key}; known here: {', '.join(siblings)}")
    return ValueError(f"unknown key {key}; {prefix.removesuffix('.')} takes a value, not further keys")


def _describe(kind: Any) -> str:
    """A type in words."""
    if len(_members(kind)) > 1:
        return " or ".join(_describe(member) for member in _members(kind))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is dict:
        return f"a mapping from names to {_describe(arguments[1])}"
    if origin is list:
        return f"a list, each {_describe(arguments[0])}"
    if dataclasses.is_dataclass(kind):
        return f"a mapping with the keys {', '.join(_children(kind))}"
    return {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}[kind]


def _check(value: Any, kind: Any, key: str) -> None:
    """Raise ValueError, one line, unless value (from YAML) can become a 'kind'; key is its full dotted name."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        _check_mapping(value, kind, key)
    elif origin is list and isinstance(value, list):
        for i, item in enumerate(value):
            _check(item, arguments[0], f"{key}[{i}]")
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            _check(item, arguments[1], f"{key}.{name}")
    elif len(_members(kind)) > 1:
        nested = [member for member in arguments if typing.get_origin(member) is dict]
        if nested and isinstance(value, dict):
            _check(value, nested[0], key)
        elif not any(_is_plain(value, member) for member in arguments):
            raise _mismatch(value, kind, key)
    elif not _is_plain(value, kind):
        raise _mismatch(value, kind, key)


def _check_mapping(value: dict[Any, Any], kind: Any, key: str) -> None:
    children = _children(kind)
    prefix = f"{key}." if key else ""
    for name, item in value.items():
        if name not in children:
            raise _unknown(f"{prefix}{name}", str(name), kind, prefix)
        _check(item, children[name], f"{prefix}{name}")
    for field in dataclasses.fields(kind):
        absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if absent and field.name not in value:
            raise ValueError(f"{prefix}{field.name}: expected {_describe(children[field.name])}, got nothing; add it")


def _is_plain(value: Any, kind: Any) -> bool:
    """Whether value is of the simple type 'kind'; true is no number, 1e-3 (text in YAML 1.1) is one, nan is none."""
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(value, bool):
        return kind is bool
    if kind is float and isinstance(value, int | float | str):
        try:
            return math.isfinite(float(value))
        except ValueError:
            return False
    return isinstance(kind, type) and isinstance(value, kind)


def _mismatch(value: Any, kind: Any, key: str) -> ValueError:
    shown = "nothing" if value is None else repr(value)
    text = f"{key or 'config'}: expected {_describe(kind)}, got {shown if len(shown) < 80 else shown[:76] + '...'}"
    if typing.get_origin(kind) is typing.Literal and isinstance(value, str):
        near = difflib.get_close_matches(value, typing.get_args(kind), 1)
        text += f"; did you mean {near[0]}?" if near else ""
    if kind is str and value is not None:
        text += f"; write {key.split('.')[-1]}: '{value}'"
    return ValueError(text if ";" in text else f"{text}; correct the value")
