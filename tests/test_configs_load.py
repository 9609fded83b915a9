"""Every config in configs/ can be read, is valid, and says how to run it and what to expect."""

from pathlib import Path

import pytest

from dist_hdnn.config.checks import validate
from dist_hdnn.config.files import read_config

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_there_are_configs() -> None:
    assert len(FILES) >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_a_config_loads_and_validates(file: Path) -> None:
    config = read_config(file)
    validate(config)
    assert config.name == file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_a_config_opens_with_its_command_and_the_figure_to_expect(file: Path) -> None:
    comments = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"dist-hdnn train configs/{file.name}" in line for line in comments)
    assert any("Expect" in line for line in comments)
