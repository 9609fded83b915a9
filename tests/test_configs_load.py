"""Every config in configs/ can be read, is valid, and says how to run it and what to expect."""

import shlex
from pathlib import Path

import pytest

from dist_hdnn.config.checks import validate
from dist_hdnn.config.files import read_config
from dist_hdnn.dynamics.architectures import ARCHITECTURES

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_there_are_configs() -> None:
    assert len(FILES) >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_a_config_loads_and_validates(file: Path) -> None:
    config = read_config(file)
    validate(config)
    assert config.name == file.stem


def comments(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_a_config_opens_with_its_commands_and_the_figure_to_expect(file: Path) -> None:
    commands = [shlex.split(line[1:]) for line in comments(file) if f"dist-hdnn train configs/{file.name}" in line]
    assert commands
    for words in commands:
        validate(read_config(file, [word for word in words[3:] if word.startswith("--")]))
    assert any("Expect" in line for line in comments(file))


def test_one_agent_has_a_row_of_working_options_and_figures_for_every_architecture() -> None:
    (file,) = (file for file in FILES if file.stem == "one_agent")
    rows = [words for line in comments(file) if (words := line[1:].split())[:1] and words[0] in ARCHITECTURES]
    assert {words[0] for words in rows} == set(ARCHITECTURES)
    for words in rows:
        options = [word for word in words if word.startswith("--")]
        config = read_config(file, [f"--network.architecture={words[0]}", *options])
        validate(config)
        halves = len(ARCHITECTURES[words[0]].parts) == 2
        assert halves == (config.sensors == []), "a state in halves has the default places"
