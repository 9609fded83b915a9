"""Documents agree with the code, and their commands and Python blocks work.

Every command of README and docs is either run here in a separate folder, shortened where it would take minutes, or
its options are parsed and its scripts are checked; NOT_RUN says why for the others.
"""

from __future__ import annotations

import builtins
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from documents import INCLUDE, PAGES, ROOT, Command, arguments, commands, python_blocks, shown_after
from test_house import ORDER

import dist_hdnn
from dist_hdnn import cli
from dist_hdnn.dynamics.architectures import ARCHITECTURES, INTEGRATORS, Architecture, architecture
from dist_hdnn.dynamics.interconnection import rounds
from dist_hdnn.study.plan import read_plan

DOCS = ROOT / "docs"
SHORT = ["--train.epochs=1", "--data.samples=500"]  # instead of minutes of training
A_RUN = "runs/swiss_roll_ring8/a-run"  # the <run> of documents
PLACES = {"<run>": Path(A_RUN).name, "FILE": "readings.csv", "CONFIG": "configs/swiss_roll_ring8.yaml", "DIR": A_RUN}
RUN = ("inspect", "evaluate", "robustness", "certify", "predict", "doctor")  # commands of dist-hdnn that run unchanged
NOT_RUN = {
    ". .venv/bin/activate": "activates the environment of make demo",
    "MKL_CBWR=AVX2,STRICT OMP_NUM_THREADS=1 python my_training.py": "a program of the reader",
    "dist-hdnn certify runs/swiss_roll_ring8/<run> --workers 4": "takes long; test_certify.py certifies on workers",
    "python tests/transport/collected.py threads 600": "takes long; test_collected.py runs it for seconds",
    "mpiexec -n 3 python tests/transport/collected.py mpi 600": "the same",
    "python tests/faults/killed_rounds.py": "takes a minute; test_killed_rounds.py kills some",
    "docker compose -f docker/compose.yaml up": "needs Docker",
    "dist-hdnn export runs/swiss_roll_ring8/<run>": "takes long; test_exporting.py exports runs",
    "dist-hdnn export runs/swiss_roll_ring8/<run> --output=exported": "the same",
    "dist-hdnn export swiss_roll_ring8 --output=exported": "the fixture does it",
    "dist-hdnn export swiss_roll_ring8 --runtime --output=field": "test_runtime.py does so",
    "dist-hdnn emulate runs/swiss_roll_ring8/<run>": "the same",
    "dist-hdnn emulate swiss_roll_ring8 --samples=40": "the same",
    "dist-hdnn emulate swiss_roll_ring8 --samples=40 --loss=0.1 --latency=5ms": "the same",
    "dist-hdnn emulate swiss_roll_ring8 --samples=40 --kill=3": "the same",
}
FRAGMENTS = {
    "docs/own_loop.md": "parts of examples/own_loop.py, which test_examples.py runs",
    "docs/sharp_bits.md": "test_sharp_bits_fail_and_work_as_the_page_says runs them",
}
SHARP_BITS = """
import networkx, numpy, torch, dist_hdnn
from torch.utils.data import DataLoader
from dist_hdnn.data import batch_order
graph, workers, epoch = dist_hdnn.ring(8), dist_hdnn.connect(), 1
net = dist_hdnn.HDNN(graph, width=2, layers=2)
readout = dist_hdnn.LocalReadout(net.ownership, classes=2)
x, labels = torch.randn(40, net.neurons), torch.randint(2, (40,))
measured = numpy.random.default_rng(0).standard_normal((40, net.neurons))
"""
QUOTED = (  # parts of messages
    "check the log of",
    "it returned before this exchange",
    "seed shuffling or use batch_order",
    "expected a finite loss, got",
    "expected finite gradients",
    "information travels at most",
    "failed first, ",
    "saving a checkpoint and stopping",
    "; resume with:",
    "expected undirected links, as training sends slices both ways over a link, got a directed graph",
)
QUICKSTART, READING = DOCS / "quickstart.md", DOCS / "reading.md"
pytestmark = pytest.mark.timeout(300)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def row(each: Architecture) -> str:
    """Return one line of the table of architectures."""
    symplectic = "yes" if each.symplectic else "determinant 1" if each.volume_preserving else "no"
    inverse = "yes" if each.invertible else "no"
    exchanges = str(rounds(each, True, False))
    columns = each.name, each.equation, ", ".join(each.integrators), symplectic, inverse, exchanges, each.source
    return f"| {' | '.join(columns)} |"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_has_paths_of_the_machine_that_wrote_it(page: Path) -> None:
    assert not re.findall(r"(?<![\w.])/(?:tmp|home|root|work)/\S*", page.read_text())


def test_every_architecture_is_in_the_table_with_its_properties() -> None:
    table = (DOCS / "architectures.md").read_text()
    missing = [row(architecture(name)) for name in ARCHITECTURES if row(architecture(name)) not in table]
    assert not missing, "docs/architectures.md lacks:\n" + "\n".join(missing)


def test_every_integrator_is_in_the_table_with_its_order() -> None:
    table = (DOCS / "architectures.md").read_text()
    missing = [line for one in INTEGRATORS.values() if (line := f"| {one.name} | {one.order} |") not in table]
    assert not missing, "docs/architectures.md lacks:\n" + "\n".join(missing)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder that looks like the repository, with a run in it."""
    folder = tmp_path_factory.mktemp("documents")
    for name in ("configs", "benchmarks", "launch", "docs", "docker", "examples"):
        (folder / name).symlink_to(ROOT / name)
    config = ROOT / "configs" / "swiss_roll_ring8.yaml"
    assert cli.main(["train", str(config), *SHORT, f"--output={folder / A_RUN}"]) == 0
    assert cli.main(["export", str(folder / A_RUN), f"--output={folder / 'exported'}", "--agents=none"]) == 0
    (folder / "readings.csv").write_text("x1,x2\n0.5,0.5\n")
    (folder / "points.csv").write_text("station,x1,x2\nnorth,0.5,0.5\n")
    return folder


@pytest.mark.xdist_group("documents")
@pytest.mark.parametrize("page", [page for page in PAGES if page != QUICKSTART], ids=name_of)
def test_every_command_of_a_document_is_run_or_parsed(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("COLUMNS", "120")
    for command in commands(page):
        check(command, page, capsys)


@pytest.mark.processes
def test_the_quickstart_goes_from_a_graph_file_to_a_certificate_and_four_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for command in commands(QUICKSTART):
        words = command.words
        if words[:2] == ["dist-hdnn", "train"] and "--workers=4" in words:
            started = [sys.executable, "-m", "dist_hdnn", *words[1:], *SHORT]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run(started, check=True, timeout=110, env=environment, stdout=subprocess.DEVNULL)
        elif words[:2] == ["dist-hdnn", "train"]:
            assert cli.main([*words[1:], *SHORT]) == 0, str(command)
        else:
            check(command, QUICKSTART, capsys)
    assert {"graph.png", "decision.png", "sensitivity.png"} <= set(os.listdir("runs/abilene/plots"))
    assert "workers: 4" in Path("runs/abilene4/config.yaml").read_text()


def check(command: Command, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command in the current folder or parse it; fail if neither applies and NOT_RUN lacks it."""
    if " ".join(command.words) in NOT_RUN:
        return
    words = [
        re.sub(r"<run>|\bFILE\b|\bCONFIG\b|\bDIR\b", lambda found: PLACES[found[0]], word) for word in command.words
    ]
    given = arguments(words)
    script = next((word for word in words if word.startswith("launch/")), None)
    if script is not None:
        assert os.access(script, os.X_OK), f"{command}: {script} cannot be executed"
        subprocess.run(["bash", "-n", script], check=True)
    if given is not None:
        answer(command, given, page, capsys)
    elif words[0] == "cat":
        subprocess.run(["bash", "-c", command.text], check=True)
    elif words[0] == "make":
        subprocess.run(["make", "--dry-run", "-C", str(ROOT), words[1]], check=True, stdout=subprocess.DEVNULL)
    elif words[:2] == ["python", "docs/pictures/make_concepts.py"]:
        subprocess.run([sys.executable, words[1], "drawn"], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert {path.name for path in DOCS.glob("pictures/concept_*.png")} == set(os.listdir("drawn"))
    elif words[0] == "python" and words[1].startswith("benchmarks/"):
        source = Path(words[1]).read_text()
        unknown = [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in source]
        assert not unknown, f"{command}: {words[1]} knows no {unknown}"
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        wanted = re.findall(r"\w+", re.findall(r"\[(.*)\]", command.text)[0])
        assert set(wanted) <= set(extras), f"{command}: the extras are {sorted(extras)}"
    elif "examples/" in command.text:  # test_examples.py runs them
        (example,) = (word for word in words if word.startswith("examples/") and word.endswith(".py"))
        assert (ROOT / example).is_file(), f"{command}: no {example}"
    else:
        assert script is not None or " ".join(words) in ("mpiexec -n 2",), f"{command}: neither run, parsed nor listed"


def answer(command: Command, given: list[str], page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command of dist-hdnn, or parse it with all its options."""
    rest = [word for word in given[1:] if word != "..."]
    if not rest and given[:1] != ["doctor"]:
        assert cli.main([*given[:1], "--help"]) == 0, str(command)
    elif given[0] == "study":
        read_plan(rest[0], rest[1:])
    elif given[0] in RUN:
        capsys.readouterr()
        assert cli.main(given) == 0, f"{command}: {capsys.readouterr().err}"
        printed = capsys.readouterr().out.splitlines()
        shown = shown_after(page, " ".join(command.words)) if given[0] == "inspect" else []
        assert not (missing := [line for line in shown if line.strip() not in map(str.strip, printed)]), (
            f"{command}: the document shows what is not printed: {missing}"
        )
    else:
        assert given[0] in ("train", "tune"), f"{command}: neither run, parsed nor listed"
        given = [word for word in given if word != "--from=RUN"]  # RUN stands for any run
        assert cli.main([*given, "--print_config"]) == 0, f"{command}: {capsys.readouterr().err}"


@pytest.mark.xdist_group("documents")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if python_blocks(page) and name_of(page) not in FRAGMENTS], ids=name_of
)
def test_python_of_a_document_runs(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    for number, block in enumerate(python_blocks(page)):
        block = re.sub(r"runs/[^/]+/\d{8}T\w+-s0", A_RUN, block)
        names: dict[str, Any] = {"__name__": "__document__", "__file__": str(page)}  # beside examples/, as docs/ is
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)
        assert names.keys() - {"__name__", "__file__", "__builtins__"}, f"block {number} imports or defines nothing"


@pytest.mark.filterwarnings("ignore:.*information travels")
@pytest.mark.parametrize("block", python_blocks(DOCS / "sharp_bits.md"), ids=lambda block: block.splitlines()[1][:30])
def test_sharp_bits_fail_and_work_as_the_page_says(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, instead = block.split("# INSTEAD")
    assert wrong.startswith("# DO NOT DO THIS")
    names: dict[str, Any] = {}
    exec(SHARP_BITS, names)
    if error := re.search(r"^# (\w+Error): (.+)$", wrong, flags=re.MULTILINE):
        with pytest.raises(getattr(builtins, error[1]), match=re.escape(error[2])):
            exec(wrong, names)
    exec("#" + instead, names)


def test_the_page_of_examples_includes_every_program_once() -> None:
    page = DOCS / "examples.md"
    included = INCLUDE.findall(page.read_text(encoding="utf-8"))
    assert sorted(included) == sorted(f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py"))
    assert len(python_blocks(page)) == len(included) and all("def main(" in text for text in python_blocks(page))


def test_every_command_that_is_not_run_is_on_a_page() -> None:
    written = {" ".join(command.words) for page in PAGES for command in commands(page)}
    assert not NOT_RUN.keys() - written


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_message_that_pages_quote_is_in_the_code(quoted: str) -> None:
    pages = " ".join(" ".join(page.read_text(encoding="utf-8") for page in PAGES).split())
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "dist_hdnn").rglob("*.py"))
    assert quoted in pages, f"no page quotes {quoted!r}: drop it here"
    assert any(quoted in re.sub(r'"\s+f?"', "", text) for text in sources), f"pages quote {quoted!r}, the code does not"


def test_every_page_is_in_the_navigation_and_every_picture_exists() -> None:
    listed = re.findall(
        r'"([\w.]+\.md)"', str(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]).replace("'", '"')
    )
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))
    for page in PAGES:
        for picture in re.findall(r'src="([^"]+)"', page.read_text()):
            assert (page.parent / picture).is_file(), f"{page.name}: no picture {picture}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: no {target}"


def test_every_public_name_is_on_the_api_page() -> None:
    named = re.findall(r"^::: dist_hdnn\.(\w+)$", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(name for name in dist_hdnn.__all__ if name != "__version__")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file in re.findall(r"`([\w/]+\.py)`", text):
        assert (ROOT / file).is_file() or (ROOT / "dist_hdnn" / file).is_file(), f"{page.name}: no {file}"
    for name in re.findall(r"`(dist_hdnn(?:\.\w+)+)", text):
        assert resolves(name), f"{page.name}: no {name}"


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or a name in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_page_for_readers_names_every_folder_in_the_order_of_imports() -> None:
    text = READING.read_text(encoding="utf-8")
    for folder in re.findall(r"`([a-z_]+)/`", text):
        assert (ROOT / folder).is_dir() or (ROOT / "dist_hdnn" / folder).is_dir(), f"no folder {folder}"
    tree = re.findall(r"^ {2}(\w+)/ ", text, flags=re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "dist_hdnn").glob("*/__init__.py")}
    assert sorted(tree) == sorted(folders)
    place = {folder: number for number, group in enumerate(ORDER) for folder in group}
    assert [place[folder] for folder in tree] == sorted(place[folder] for folder in tree)


def test_the_names_to_read_and_to_extend_stand_in_their_files() -> None:
    """In a row of a table, or an item of a list, names follow the file that they stand in."""
    checked = 0
    for line in READING.read_text(encoding="utf-8").replace("\n  ", " ").splitlines():
        for file, names in re.findall(r"`([\w/]+\.py)`((?:,? (?:\| )?`[A-Za-z_][\w.]*`)+)", line):
            source = (ROOT / "dist_hdnn" / file.removeprefix("dist_hdnn/")).read_text(encoding="utf-8")
            for name in re.findall(r"`([\w.]+)`", names):
                last = re.escape(name.split(".")[-1])
                assert re.search(rf"^ *(?:def|class) {last}\b|^{last}\b.* =", source, re.MULTILINE), (
                    f"{file}: no {name}"
                )
                checked += 1
    assert checked > 20


def test_the_hour_of_a_newcomer_is_as_long_as_it_says() -> None:
    text = READING.read_text(encoding="utf-8")
    (said,) = re.findall(r"about ([\d ]+) lines", text)
    files = re.findall(r"^\| \d+ \| `([\w/]+\.py)`", text, flags=re.MULTILINE)
    lines = sum((ROOT / "dist_hdnn" / file).read_text(encoding="utf-8").count("\n") for file in files)
    assert abs(lines - int(said.replace(" ", ""))) < 0.1 * lines, f"{len(files)} files of {lines} lines"
