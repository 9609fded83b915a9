"""The command line: speed, exit codes, one-line errors, JSON on stdout, and the run directory."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import tomllib
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest

import dist_hdnn
from dist_hdnn import cli, doctor
from dist_hdnn.cli import main
from dist_hdnn.config import FAMILY_OPTIONS, ArchitectureName, Config
from dist_hdnn.config.files import read_config, self_contained
from dist_hdnn.config.schema import children_of
from dist_hdnn.experiment import tasks
from dist_hdnn.run.directory import prepare_run_directory

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: Any, *_: Any) -> Path:
        raise AssertionError("training was reached")

    monkeypatch.setattr(tasks, "train", train)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """The one line on stderr of a command that must fail with `code` and print nothing else."""
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("dist-hdnn: error: ") and captured.out == ""
    return lines[0]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON that a command prints; nothing else may be on stdout."""
    assert main([*arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dist_hdnn", *arguments]
    path = os.pathsep.join(filter(None, [str(CONFIGS.parent), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["inspect", "--help"], ["study", "--help"]])
def test_help_takes_less_than_half_a_second_of_processor_time(arguments: list[str]) -> None:
    used = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = shell(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0 and "usage: dist-hdnn" in done.stdout and done.stderr == ""
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(used) < 0.5, used


def test_neither_help_nor_a_mistake_imports_torch_or_numpy() -> None:
    program = (
        "import sys, dist_hdnn; from dist_hdnn.cli import main; "
        "main(['train', '--help']); main(['train', '--layers=3']); "
        "sys.exit(bool({'torch', 'numpy', 'networkx', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=CONFIGS.parent, capture_output=True).returncode == 0


def test_the_module_is_the_command() -> None:
    assert shell("--version").stdout == f"dist-hdnn {dist_hdnn.__version__}\n"
    wrong = shell("train", "--grahp.agents=3")
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert wrong.stderr == "dist-hdnn: error: unknown key grahp.agents; did you mean graph.agents?\n"


RUNS = ("evaluate", "certify", "export", "predict")  # commands


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("train", "--print-config"), "--print_config"),
        (("inspect", "--jsn"), "--json"),
        (("train", "--help-al"), "--help-all"),
        (("study", "digits_density", "--max-trial=2"), "--max-trials"),
        (("study", "digits_density", "--retry_failed"), "--retry-failed"),
    ],
)
def test_a_misspelt_option_of_a_command_names_the_one_that_is_meant(
    given: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *given).endswith(f"did you mean {meant}?")


def keys_of(kind: Any, prefix: str = "") -> list[str]:
    """Every option of a config, by its dotted key."""
    keys: list[str] = []
    for name, child in children_of(kind).items():
        keys += keys_of(child, f"{prefix}{name}.") if dataclasses.is_dataclass(child) else [f"{prefix}{name}"]
    return keys


def test_help_all_shows_every_option_once_with_its_text_and_its_choices_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--help-all"]) == 0
    printed = capsys.readouterr().out
    shown = re.findall(r"^  --([\w.]+)=", printed, flags=re.MULTILINE)
    assert sorted(shown) == sorted(keys_of(Config)) and len(shown) > 90
    family = printed[printed.index("--graph.family") : printed.index("--graph.agents")]
    assert all(len(re.findall(rf"\b{name}\b", family)) == 1 for name in FAMILY_OPTIONS)
    text = " ".join(printed.split())
    for words in ("step size h of the integrator", "swiss roll on a ring of 8", "(default: 0.5)", "agent, half, slot"):
        assert words in text
    assert max(map(len, printed.splitlines())) <= 80


def test_help_is_short_and_says_how_to_see_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-h"]) == 0
    printed = capsys.readouterr().out
    shown = re.findall(r"^  --([\w.]+)=", printed, flags=re.MULTILINE)
    assert 20 <= len(shown) <= 30 and {"graph.file", "network.layers", "data.file", "workers"} <= set(shown)
    assert f"These are {len(shown)} of {len(keys_of(Config))} options; --help-all shows them all" in printed
    assert printed.count("\n") < 110 and "swiss_roll_ring8" in printed


def test_help_shows_the_values_of_the_config_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "digits_grid16", "--network.layers=3", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: grid)" in text and "number of integrator steps (default: 3)" in text and "--json" in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [("sensors", "position in that half"), ("graph", "--graph.agents=N"), ("network.step", "step size h")],
)
def test_a_part_of_the_options_has_a_help_of_its_own(
    given: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"--{given}.help"]) == 0
    assert shown in capsys.readouterr().out
    assert main(["train", "--senors.help"]) == 2
    assert capsys.readouterr().err == "dist-hdnn: error: unknown key senors; did you mean sensors?\n"


@pytest.mark.parametrize("command", ["train", "tune", "inspect", *RUNS, "robustness", "study", "doctor"])
@pytest.mark.parametrize("flag", ["--help", "-h", "--help-all"])
def test_every_command_has_help_of_one_form(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, flag]) == 0
    printed = capsys.readouterr().out
    usage, _, rest = printed.partition("\n\n")
    assert usage.startswith(f"usage: dist-hdnn {command}") and rest[0].isupper()
    assert max(map(len, printed.splitlines())) <= 80


def test_print_config_gives_a_file_that_reads_back_equal(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seed=4", "--network.layers", "3", "--sensors=[{feature: 0, agent: '2'}]"]
    assert main(["train", *options, "--print_config"]) == 0
    Path("printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert read_config("printed.yaml") == read_config(None, options)


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: dist-hdnn COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["train", "none.yaml"], "none.yaml: no such config file"),
        (["train", "a.yaml", "b.yaml"], "train: expected [CONFIG], got a.yaml and b.yaml"),
        (["train", "--json"], "train takes no --json"),
        (["evaluate"], "usage: dist-hdnn evaluate RUN"),
        (["evaluate", "nowhere"], "expected a run directory, got none: nowhere"),
        (["evaluate", "."], "expected a run directory, got a directory without config.yaml"),
        (["doctor", "me"], "usage: dist-hdnn doctor"),
        (["inspect", "-x", "3"], "unexpected argument '-x'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert expected in refused(capsys, *arguments)


BAD_OPTIONS = [
    (["--network.width=3"], "network.width"),
    (["--network.layers=0"], "network.layers"),
    (["--network.layers=-1"], "network.layers"),
    (["--network.step=0"], "network.step"),
    (["--graph.agents=-1"], "graph.agents"),
    (["--train.batch_size=0"], "train.batch_size"),
    (["--network.layres=3"], "did you mean network.layers?"),
    (["--network.layers=many"], "network.layers: expected an integer, got 'many'"),
    (["--network.activation=tahn"], "network.activation"),
    (["--network.width={'0': 2}"], "network.width"),
    (["--network.K.kind=matrix", "--network.K.file=none.npy"], "none.npy"),
    (["--device=cuda:99"], "device: expected one that PyTorch sees, got cuda:99"),
    (["--graph.family=torus", "--graph.agents=97"], "graph.agents"),
    (["--graph.family=hypercube", "--graph.agents=6"], "choose 4 or 8"),
    (["--graph.family=balanced_tree", "--graph.agents=8"], "such as 7 or 15, got 8"),
    (["--graph.family=grid", "--graph.rows=3"], "graph.rows"),
    (["--graph.family=grid", "--graph.rows=3", "--graph.columns=3", "--graph.agents=10"], "3 rows x 3 columns = 9"),
    (["--sensors=[{feature: 0, agent: Atlantis}, {feature: 1, agent: 0}]"], "sensors[0].agent"),
    (["--sensors=[{feature: 0, agent: 8}, {feature: 1, agent: 0}]"], "sensors[0].agent"),
    (["--sensors=[{feature: 0, agent: 1}, {feature: 1, agent: 1}]"], "one sensor per neuron"),
    (["--sensors=[{feature: 0, agent: 1}, {feature: 1, agent: '1'}]"], "one sensor per neuron"),
    (["--sensors=[{feature: 0, agent: 1}]"], "feature"),
    (["--sensors=[{feature: 0, agent: 0}, {feature: 1, agent: 1}, {feature: 2, agent: 2}]"], "feature"),
    (["--sensors=[{feature: 0, agent: 0}, {feature: 1, agent: 1, slot: 5}]"], "slot"),
]


@pytest.mark.parametrize(("options", "expected"), BAD_OPTIONS)
def test_options_that_do_not_fit_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    assert expected in refused(capsys, "inspect", *options)


GRAPHML = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="{}"><node id="a"/><node id="b"/>'
GRAPH_FILES: dict[str, tuple[str, bytes | None]] = {
    "missing": ("net.graphml", None),
    "empty": ("net.graphml", b""),
    "truncated": ("net.graphml", GRAPHML.format("undirected").encode()),
    "binary": ("net.graphml", bytes(range(256))),
    "of another kind": ("net.gml", (GRAPHML.format("undirected") + "</graph></graphml>").encode()),
    "of an unknown suffix": ("net.xyz", b"a b\n"),
    "directed": (
        "net.graphml",
        (GRAPHML.format("directed") + '<edge source="a" target="b"/></graph></graphml>').encode(),
    ),
}


@pytest.mark.parametrize("fault", GRAPH_FILES)
def test_a_graph_file_that_is(capsys: pytest.CaptureFixture[str], fault: str) -> None:
    name, content = GRAPH_FILES[fault]
    if content is not None:
        Path(name).write_bytes(content)
    line = refused(capsys, "inspect", f"--graph.file={name}")
    assert name in line and (fault != "directed" or "undirected" in line)


def test_a_pattern_entry_on_a_pair_without_a_link_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["1" if i == j or (i, j) == (0, 4) else "0" for j in range(8)] for i in range(8)]
    Path("R.csv").write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
    line = refused(capsys, "inspect", "--network.K.kind=matrix", "--network.K.file=R.csv")
    assert "block (0, 4)" in line and "not linked" in line


DATA_FILES = {
    "label outside the classes": ("x1,x2,label\n0,1,0\n1,0,1\n1,1,3\n", ["--data.classes=2"], "label"),
    "not a number": ("x1,x2,label\n0,nan,0\n1,0,1\n", [], "x2"),
    "infinity": ("x1,x2,label\n0,1,0\ninf,0,1\n", [], "x1"),
    "more features than sensors": (
        "a,b,c,label\n0,1,2,0\n1,0,2,1\n",
        ["--graph.agents=1"],
        "more features than sensors",
    ),
    "no such file": (None, [], "data.csv"),
}


@pytest.mark.parametrize("fault", DATA_FILES)
def test_a_data_file_with(capsys: pytest.CaptureFixture[str], fault: str) -> None:
    content, options, expected = DATA_FILES[fault]
    if content is not None:
        Path("data.csv").write_text(content, encoding="utf-8")
    assert expected in refused(
        capsys, "inspect", "--data.name=file", "--data.file=data.csv", "--data.split=random", *options
    )


def test_inspect_counts_what_the_ring_of_eight_exchanges(capsys: pytest.CaptureFixture[str]) -> None:
    info = answer(capsys, "inspect")
    assert (info["graph"]["agents"], info["graph"]["links"], info["graph"]["diameter"]) == (8, 8, 4)
    sent = info["communication"]
    slice_bytes = 1 * 125 * 4  # n_i = width / 2, batch, float32
    assert sent["messages_per_layer"] == 4 * 16 and sent["bytes_per_layer"] == 4 * 16 * slice_bytes
    assert sent["messages_per_step"] == 2 * 16 * 4 * 16
    assert sent["bytes_per_link_and_step"] == {"mean": 2 * 16 * 8 * slice_bytes, "max": 2 * 16 * 8 * slice_bytes}
    assert info["warnings"] == [] and info["network"]["parameters"]["total"] == 16 * (48 + 16) + 34


@pytest.mark.parametrize(
    ("options", "rounds", "placement"),
    [
        ([], 4, "K"),
        (["--network.integrator=yoshida4"], 14, "K"),
        (["--network.architecture=MS1"], 2, "K"),
        (["--network.architecture=antisymmetric"], 2, "K"),
        (["--network.architecture=H1", "--network.J=J2", "--network.X.kind=neighbours"], 4, "K and X"),
        (["--network.K.kind=block_diagonal", "--network.X.kind=neighbours"], 2, "X"),
        (["--network.X.kind=neighbours"], 6, "K and X"),
        (["--network.K.kind=block_diagonal"], 0, "none"),
    ],
)
def test_rounds_a_layer_follow_the_placement(
    capsys: pytest.CaptureFixture[str], options: list[str], rounds: int, placement: str
) -> None:
    info = answer(capsys, "inspect", *options)
    assert info["communication"]["rounds_per_layer"] == rounds and info["network"]["placement"] == placement


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--network.X.kind=neighbours", "--readout.kind=local"],
        ["--readout.kind=agents", "--readout.agents=[1, 5]", "--initial_state=learned"],
        ["--readout.kind=gossip"],
        ["--more_graphs=[{family: path}]", "--network.shared_x=false", "--network.X.kind=neighbours"],
        ["--network.width={'0': 4, '1': 2, '2': 6, '3': 2}", "--graph.agents=4", "--graph.family=star"],
        ["--network.integrator=stormer_verlet", "--network.time=2", "--network.X.kind=neighbours"],
        ["--network.architecture=MS2", "--network.width=6", "--network.time=shared"],
        ["--network.architecture=H1", "--network.J=trained", "--network.X.kind=neighbours"],
        ["--network.architecture=H1", "--network.J=J2", "--network.width=4", "--more_graphs=[{family: path}]"],
        ["--network.architecture=verlet", "--network.integrator=yoshida4", "--more_graphs=[{family: path}]"],
        *([f"--network.architecture={name}", "--network.width=4"] for name in get_args(ArchitectureName)),
        ["--network.memory=reversible", "--network.X.kind=neighbours"],
        ["--network.memory=reversible", "--network.architecture=MS1", "--more_graphs=[{family: path}]"],
        ["--network.memory=reversible", "--network.architecture=leapfrog", "--network.integrator=stormer_verlet"],
        ["--network.memory=recompute", "--network.keep_every=1", "--more_graphs=[{family: path}]"],
        ["--network.memory=recompute", "--network.architecture=MS2"],
        ["--network.keep_dtype=bfloat16", "--network.integrator=stormer_verlet"],
    ],
)
def test_inspect_counts_the_parameters_and_messages_that_the_network_has(options: list[str]) -> None:
    import torch

    from dist_hdnn.build.assembly import build_classifier, build_dataset

    config = read_config(None, [*options, "--network.layers=3", "--train.batch_size=5"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = build_dataset(config)
        model = build_classifier(config, data)
    net = model.network
    info = tasks.inspect(config)
    trained = sum(parameter.numel() for parameter in model.parameters())
    assert info["network"]["parameters"]["total"] == trained
    model(torch.randn(1, data.features))
    sent, traffic = info["communication"], net.traffic()
    assert (sent["messages_per_prediction"], sent["bytes_per_prediction"]) == (traffic["messages"], traffic["bytes"])
    net.reset_traffic()
    net(torch.randn(5, net.neurons)).sum().backward()
    traffic = net.traffic()
    assert (sent["messages_per_step"], sent["bytes_per_step"]) == (traffic["messages"], traffic["bytes"])


def test_inspect_knows_that_what_is_kept_is_rounded() -> None:
    def kept(*options: str) -> int:
        return int(tasks.inspect(read_config(None, [*options]))["memory"]["sweep_bytes"])

    rounded = "--network.keep_dtype=bfloat16"  # with store: the state before every layer, and one layer as it is
    assert kept(rounded) == kept("--network.memory=recompute", "--network.keep_every=1", rounded) < kept() / 2
    recompute = "--network.memory=recompute"
    assert kept() > kept(recompute) > kept(recompute, rounded) > kept(recompute) / 2


def test_inspect_of_a_wide_graph_warns_about_the_reach(capsys: pytest.CaptureFixture[str]) -> None:
    info = answer(capsys, "inspect", "--graph.family=path", "--graph.agents=100", "--network.layers=2")
    assert any("diameter" in line for line in info["warnings"])
    assert main(["inspect", "--graph.family=path", "--graph.agents=100", "--network.layers=2"]) == 0
    assert "warning" in capsys.readouterr().out


def test_inspect_of_a_torus_of_100_000_agents_takes_less_than_30_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    start = datetime.now()
    info = answer(capsys, "inspect", "--graph.family=torus", "--graph.agents=100000")
    assert info["graph"]["links"] == 200000 and info["communication"]["rounds_per_layer"] == 4
    assert (datetime.now() - start).total_seconds() < 30


def test_inspect_works_on_every_real_network(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((shared / "data" / "graphs").glob("*.graphml"))
    assert len(files) == 12
    for file in files:
        info = answer(capsys, "inspect", str(CONFIGS / "real_network.yaml"), f"--graph.file={file}")
        assert info["graph"]["agents"] > 1


@pytest.mark.parametrize("family", ["grid", "torus", "hypercube", "complete", "exponential_ring", "watts_strogatz"])
def test_every_family_can_be_sized_by_its_agents(capsys: pytest.CaptureFixture[str], family: str) -> None:
    assert answer(capsys, "inspect", f"--graph.family={family}", "--graph.agents=16")["graph"]["agents"] == 16


def test_an_option_that_the_family_does_not_use_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    info = answer(capsys, "inspect", "--graph.rows=3")
    assert info["warnings"] == ["graph.rows is not used by the family ring"]


def test_doctor_reports_and_never_fails(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "doctor")
    assert found["software"]["torch"]["ok"] and found["transports"]["local"]["ok"]
    assert set(found["transports"]) == {"local", "shm", "gloo", "nccl", "mpi", "default"}
    assert found["runs"]["write access"]["ok"]
    assert main(["doctor"]) == 0
    assert "ok  python" in capsys.readouterr().out


def test_doctor_says_what_to_install_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    asked = doctor.importlib.metadata.version

    def version(package: str) -> str:
        if package in doctor.OPTIONAL:
            raise doctor.importlib.metadata.PackageNotFoundError
        return asked(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = doctor.examine()["software"]
    assert doctor.OPTIONAL.keys() <= found.keys()
    for package, extra in doctor.OPTIONAL.items():
        remedy = found[package][1]
        assert not found[package][0]
        assert (
            re.search(rf"pip install .*{package}", remedy) or f'pip install -e ".[{extra}]" in the checkout' in remedy
        )
        listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
        assert any(requirement.startswith(package) for requirement in listed)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_is_closed_ends_no_command(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, stream, None)
    short = ["--network.layers=2", "--data.samples=40", "--train.epochs=1", "--plots=false"]
    assert main(["train", *short, "--output=run"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["status"] == "done"
    assert main(["train", "--nonsense=1"]) == 2


def test_a_warning_is_one_line_without_a_source_path(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(config: Any) -> dict[str, Any]:
        warnings.warn("two\nlines", UserWarning, stacklevel=2)
        return {}

    monkeypatch.setattr(tasks, "inspect", inspect)
    assert main(["inspect", "--json"]) == 0
    assert capsys.readouterr().err == "warning: two lines\n"


class Chosen(RuntimeError):
    exit_code = 3


def non_finite() -> Exception:
    from dist_hdnn.training.loop import NonFiniteError

    return NonFiniteError("epoch 2, step 7, layer 3")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad\ninput"), 2),
        (OSError(28, "No space left on device"), 7),
        (PermissionError(13, "Permission denied"), 7),
        (KeyboardInterrupt(), 130),
        (Chosen("workers disagree"), 3),
        ("non-finite", 6),
    ],
)
def test_an_error_while_training_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException | str, code: int
) -> None:
    raised = non_finite() if isinstance(error, str) else error

    def train(config: Any, *_: Any) -> Path:
        raise raised

    monkeypatch.setattr(tasks, "train", train)
    assert refused(capsys, "train", code=code)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: Any, *_: Any) -> Path:
        raise KeyError("ours")

    monkeypatch.setattr(tasks, "train", train)
    with pytest.raises(KeyError):
        main(["train"])


def test_train_prints_the_test_accuracy_and_where_the_plots_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def train(config: Any, *_: Any) -> Path:
        directory = prepare_run_directory(config)
        (directory / "summary.json").write_text(json.dumps({"test_accuracy": 0.9995}), encoding="utf-8")
        return directory

    monkeypatch.setattr(tasks, "train", train)
    assert main(["train", "--output=out"]) == 0
    out = capsys.readouterr().out
    assert "test accuracy 99.95 %" in out and str(tmp_path / "out" / "plots") in out


@pytest.mark.usefixtures("never_trains")
def test_a_bad_config_never_reaches_training(capsys: pytest.CaptureFixture[str]) -> None:
    for options, expected in BAD_OPTIONS[:8]:
        assert expected in refused(capsys, "train", *options)


def test_a_run_directory_is_new_and_its_config_reproduces_the_run(tmp_path: Path) -> None:
    config = read_config(None, ["--name=trial", "--seed=5", "--graph.file=net.gml"])
    directory = prepare_run_directory(config)
    assert directory.parent == tmp_path / "runs" / "trial" and directory.name.endswith("-s5")
    assert {entry.name for entry in directory.iterdir()} == {"config.yaml", "checkpoints", "plots", "logs"}
    again = read_config(directory / "config.yaml")
    assert again == self_contained(config) and again.graph.file == str(tmp_path / "net.gml")


def test_runs_that_start_in_the_same_second_have_their_own_directories() -> None:
    config = read_config()
    assert len({prepare_run_directory(config) for _ in range(5)}) == 5


def test_a_directory_that_holds_a_run_is_refused() -> None:
    config = read_config(None, ["--output=out"])
    prepare_run_directory(config)
    with pytest.raises(ValueError, match="output: expected a new or an empty directory, got one that holds a run"):
        prepare_run_directory(config)


def test_an_output_that_is_no_writable_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("taken", encoding="utf-8")
    outputs = ["file", "file/below"] + (["/proc/none/run"] if Path("/proc/self").exists() else [])
    for output in outputs:
        with pytest.raises(ValueError, match="output: expected a directory that can be written") as caught:
            prepare_run_directory(read_config(None, [f"--output={output}"]))
        assert "choose another --output" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Permission denied"):
        prepare_run_directory(read_config(None, ["--output=out"]))
    tmp_path.chmod(0o700)


def test_training_refuses_a_taken_output_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    prepare_run_directory(read_config(None, ["--output=out"]))
    assert "holds a run" in refused(capsys, "train", "--output=out")


def test_exit_codes_are_those_of_the_design() -> None:
    from dist_hdnn.training.checkpoints.weights_file import CheckpointError
    from dist_hdnn.training.loop import NonFiniteError

    assert (cli.USAGE, cli.DISK, cli.INTERRUPTED) == (2, 7, 130)
    assert (CheckpointError.exit_code, NonFiniteError.exit_code) == (4, 6)
