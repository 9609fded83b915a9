"""What an installed package has and finds without a checkout: configs by name, types, a description without dead links.

`make test-wheel` installs the wheel into a new environment and uses it there.
"""

from __future__ import annotations

import re
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from dist_hdnn.cli import main
from dist_hdnn.config import paths
from dist_hdnn.config.files import read_config
from dist_hdnn.doctor import install_extra
from dist_hdnn.study.plan import read_plan

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[zipfile.ZipFile, list[str]]:
    """The wheel, and the names of the files of the source distribution."""
    build = pytest.importorskip("hatchling.build")
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        wheel, source = folder / build.build_wheel(str(folder)), folder / build.build_sdist(str(folder))
    with tarfile.open(source) as archive:
        return zipfile.ZipFile(wheel), [name.partition("/")[2] for name in archive.getnames()]


def test_the_wheel_has_all_configs_and_its_types_and_nothing_else(built: tuple[zipfile.ZipFile, list[str]]) -> None:
    names = set(built[0].namelist())
    configs = {f"dist_hdnn/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "dist_hdnn").rglob("*.py")}
    modules.add("dist_hdnn/transport/shm/rounds.ll")
    assert len(configs) > 15
    assert {name for name in names if ".dist-info/" not in name} == {*configs, *modules, "dist_hdnn/py.typed"}


def test_the_source_distribution_can_be_tested_and_documented(built: tuple[zipfile.ZipFile, list[str]]) -> None:
    there = set(built[1])
    for place in ("docs/pictures", "examples", "benchmarks", "launch", "docker", "tests", "configs/studies"):
        wanted = {str(path.relative_to(ROOT)) for path in (ROOT / place).glob("*.*") if path.is_file()}
        assert wanted <= there, f"missing: {wanted - there}"
    assert {"Makefile", "constraints.txt", "zensical.toml", "hatch_build.py", "CHANGELOG.md", "README.md"} <= there


def test_the_description_of_the_package_has_no_dead_picture_and_no_dead_link(
    built: tuple[zipfile.ZipFile, list[str]],
) -> None:
    (metadata,) = (name for name in built[0].namelist() if name.endswith("METADATA"))
    text = str(message_from_bytes(built[0].read(metadata)).get_payload())
    assert text.startswith("# dist_hdnn") and "import dist_hdnn" in text and "<img" not in text
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]*)\)", text))
    assert "Workers and clusters (`docs/workers.md`)" in text


def test_torch_is_bounded_by_what_was_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = (int(found) for line in project["dependencies"] for found in re.findall(r"torch.*<2\.(\d+)", line))
    (tested,) = re.findall(r"^torch==2\.(\d+)\.", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert bound == int(tested) + 1


def test_every_extra_has_code_or_tools_and_llvmlite_comes_without_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {"fast", "mpi", "partition", "study", "tables", "grid", "water", "docs", "dev"}
    assert set(project["optional-dependencies"]) == extras
    assert project["optional-dependencies"]["fast"] == [], "a name that commands in use still have"
    if sys.platform == "linux":
        assert any(line.startswith("llvmlite") and "x86_64" in line for line in project["dependencies"])


@pytest.mark.parametrize(
    "given", ["swiss_roll_ring8", "swiss_roll_ring8.yaml", "configs/swiss_roll_ring8", "configs/swiss_roll_ring8.yaml"]
)
def test_a_bundled_config_is_found_by_its_name_from_anywhere(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "swiss_roll_ring8").mkdir()  # a folder of that name, such as that of a run, is no config
    assert Path(paths.located(given)).is_file()
    assert main(["train", given, "--print_config"]) == 0
    assert "name: swiss_roll_ring8" in capsys.readouterr().out


def test_a_file_wins_over_a_bundled_config_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "swiss_roll_ring8"
    own.write_text("name: mine\n")
    assert paths.located("swiss_roll_ring8") == "swiss_roll_ring8"
    assert read_config(paths.located("swiss_roll_ring8")).name == "mine"


@pytest.mark.parametrize("name", paths.names("study"))
def test_a_bundled_study_finds_its_base_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_plan(name).name == name


def test_the_base_of_a_study_may_be_a_bundled_config(tmp_path: Path) -> None:
    study = tmp_path / "mine.yaml"
    study.write_text("base: digits_grid16\naxes: {network.layers: [1, 2]}\n")
    assert read_plan(str(study)).base["data"]["name"] == "digits"
    study.write_text("base: digits_grid17\naxes: {network.layers: [1, 2]}\n")
    with pytest.raises(ValueError, match=r"digits_grid17: no such config file; examples lie in .*configs"):
        read_plan(str(study))


WRONG = {
    ("train", "swiss_rol_ring8"): "swiss_rol_ring8: no such config file, .*; did you mean swiss_roll_ring8",
    ("train", "configs/swiss_roll_ring9.yaml"): "did you mean swiss_roll_ring8",
    ("train", "digits_density"): "expected a config, got the name of a study; give it to dist-hdnn study",
    ("study", "digits_grid16"): "expected a study, got the name of a config; give it to dist-hdnn train",
    ("study", "qqqq"): r"qqqq: no such study file, and no bundled study of that name; examples lie in .*studies",
    ("inspect", "~nosuchuser/x.yaml"): "config: expected a path, got '~nosuchuser/x.yaml' and no home",
    ("train", "."): r"\.: expected a YAML config file, got a directory",
}


@pytest.mark.parametrize(("command", "given"), WRONG)
def test_what_is_no_config_is_refused_in_one_line_with_the_nearest(
    command: str, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(WRONG[command, given], line)


def test_doctor_says_what_to_install_without_a_checkout() -> None:
    assert re.fullmatch(r"pip install 'mpi4py\S+' 'mpich\S+'", install_extra("mpi"))
