"""Reading and checking options: precedence, round trip, and one-line errors that name the key."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest
import yaml

from dist_hdnn.config import ArchitectureName, Config, GraphConfig, IntegratorName, PatternConfig
from dist_hdnn.config.checks import validate
from dist_hdnn.config.files import config_from, read_config, self_contained, to_yaml
from dist_hdnn.dynamics.architectures import ARCHITECTURES
from dist_hdnn.dynamics.integrators import INTEGRATORS


def written(folder: Path, text: str) -> str:
    file = folder / "config [1] with spaces.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def complaint(config_file: str | None, *overrides: str) -> str:
    with pytest.raises(ValueError) as caught:
        validate(read_config(config_file, overrides))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_defaults_are_a_valid_ring_of_eight() -> None:
    config = read_config()
    validate(config)
    assert config == Config()
    assert (config.graph.family, config.graph.agents, config.network.width) == ("ring", 8, 2)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "seed: 3\nnetwork: {layers: 4, step: 1e-3}\nsensors: [{feature: 0, agent: Rome}]\n")
    config = read_config(file, ["--network.layers=32", "--graph.family", "star"])
    assert (config.seed, config.network.layers, config.network.step, config.graph.family) == (3, 32, 1e-3, "star")
    assert config.sensors[0].agent == "Rome" and config.sensors[0].half == "q"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["--seed=7", "--network.width={a: 2, '3': 4}", "--train.learning_rate=1e-5", "--graph.format=gml"],
        ["--sensors=[{feature: 0, agent: '3'}, {feature: 1, agent: 3, half: p}]", "--network.shared_x=false"],
        ["--more_graphs=[{family: star}, {family: torus, rows: 2, columns: 4}]", "--network.X.kind=neighbours"],
    ],
)
def test_a_written_config_reads_back_equal(tmp_path: Path, overrides: list[str]) -> None:
    config = read_config(None, overrides)
    assert read_config(written(tmp_path, to_yaml(config))) == config


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert read_config(None, ["--train.smoothness=1e-3"]).train.smoothness == 1e-3
    assert read_config(None, ["--train.smoothness", "2"]).train.smoothness == 2.0


def test_a_self_contained_config_names_no_run_directory_and_only_absolute_paths(tmp_path: Path) -> None:
    overrides = [
        "--graph.file=net.gml",
        "--data.name=file",
        "--data.file=d.csv",
        "--output=out",
        "--network.K.file=R.npy",
    ]
    config = read_config(None, overrides)
    copied = self_contained(config)
    assert copied.output is None and config.output == "out" and config.graph.file == "net.gml"
    for path in (copied.graph.file, copied.data.file, copied.network.K.file):
        assert path is not None and Path(path).is_absolute()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--graph.agnets=3", "unknown key graph.agnets; did you mean graph.agents?"),
        ("--sede=3", "unknown key sede; did you mean seed?"),
        ("--layers=3", "unknown key layers; did you mean network.layers?"),
        ("--network.layers.x=3", "unknown key network.layers.x; did you mean network.layers?"),
        ("--xyzzy=3", "unknown key xyzzy; known here: name, output, seed"),
        ("--sensors=[{feture: 0, agent: 1}]", "unknown key sensors[0].feture; did you mean sensors[0].feature?"),
        ("--more_graphs+={agnets: 3}", "unknown key more_graphs[0].agnets; did you mean more_graphs[0].agents?"),
        ("--network.K.hop=3", "unknown key network.K.hop; did you mean network.K.hops?"),
    ],
)
def test_an_unknown_key_names_itself_in_full_and_the_nearest_known_one(override: str, expected: str) -> None:
    assert complaint(None, override).startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--seed=abc", "seed: expected an integer, got 'abc'"),
        ("--seed=true", "seed: expected an integer, got True"),
        ("--graph.agents=3.5", "graph.agents: expected an integer, got 3.5"),
        ("--graph.agents=", "graph.agents: expected an integer, got nothing"),
        ("--workers=", "workers: expected an integer or null, got nothing"),
        ("--graph.probability=x", "graph.probability: expected a number, got 'x'"),
        ("--network.step=nan", "network.step: expected a number, got 'nan'"),
        ("--network.shared_x=maybe", "network.shared_x: expected true or false, got 'maybe'"),
        ("--network.width=two", "network.width: expected an integer or a mapping from names to an integer, got 'two'"),
        ("--network.width={a: x}", "network.width.a: expected an integer, got 'x'"),
        ("--graph=3", "graph: expected a mapping with the keys family, agents"),
        ("--sensors=[{}]", "sensors[0].feature: expected an integer, got nothing"),
        ("--sensors=3", "sensors: expected a list, each a mapping with the keys feature, agent, half, slot, got 3"),
        ("--network.architecture=hamilton", "network.architecture: expected one of hamiltonian, H1, MS1, MS2, MS3"),
        ("--network.integrator=yoshida", "network.integrator: expected one of semi_implicit"),
        ("--network.J=J3", "network.J: expected one of J1, J2, trained, got 'J3'"),
        ("--network.time=fre", "network.time: expected an integer or one of free, shared, got 'fre'"),
        ("--graph={agents: 3, agents: 4}", "--graph: the key agents is given twice on line 1; keep one of them"),
        ("--seed=010", "--seed: YAML reads 010 as 8; write 8"),
        (
            "--sensors+={feature: 0, agent: off}",
            "sensors[0].agent: expected text or an integer, got False; YAML reads off as false: put quotes around it",
        ),
        ("--dtype=float46", "dtype: expected one of float32, float64, got 'float46'; did you mean float64?"),
        ("--seed", "--seed: expected an integer, got nothing"),
        ("seed=3", "unexpected argument 'seed'; options are given as --key=value"),
    ],
)
def test_a_wrong_type_names_key_expected_and_got(override: str, expected: str) -> None:
    assert complaint(None, override).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grahp: {agents: 3}", "unknown key grahp; did you mean graph?"),
        ("graph: {agnets: 3}", "unknown key graph.agnets; did you mean graph.agents?"),
        ("json: true", "unknown key json; known here:"),
        ("3: 4", "unknown key 3;"),
        ("graph: 3", "graph: expected a mapping with the keys"),
        ("graph:", "graph: expected a mapping with the keys"),
        ("graph: {agents: '3'}", "graph.agents: expected an integer, got '3'"),
        ("name: 2026", "name: expected text, got 2026; write name: '2026'"),
        ("name: yes", "name: expected text, got True; YAML reads yes as true: put quotes around it, name: 'yes'"),
        ("name: 1_000", "name: expected text, got 1000; YAML reads 1_000 as 1000: put quotes around it, name: '1_000'"),
        (
            "sensors:\n- {feature: 0, agent: 1}\n- {feature: 1, agent: NO}",
            "sensors[1].agent: expected text or an integer, got False; "
            "YAML reads NO as false: put quotes around it, agent: 'NO'",
        ),
        ("network: {width: {NO: 2}}", "network.width: expected names, got False; YAML reads yes, no, on and off as"),
        ("seed: 010", "line 1, column 7: YAML reads 010 as 8; write 8, or '010' for text"),
        ("timeout: 1:30", "line 1, column 10: YAML reads 1:30 as 90; write 90, or '1:30' for text"),
        (
            "network:\n  layers: 3\nseed: 0\nnetwork:\n  step: 0.1",
            "line 4, column 1: the key network is given on line 1 and on line 4; keep one of them",
        ),
        ("seed: 1\n'seed': 2", "line 2, column 1: the key seed is given on line 1 and on line 2"),
        ("graph: {agents: 3, agents: 4}", "line 1, column 20: the key agents is given twice on line 1"),
        ("train: {<<: {epochs: 2}, <<: {epochs: 3}}", "line 1, column 26: the key << is given twice on line 1"),
        ("sensors:\n- {feature: 0,\n   feature: 1}", "line 3, column 4: the key feature is given on line 2 and on"),
        ("seed: " + "[" * 20_000, "not valid YAML: nested too deeply"),
        ("- a", "config: expected a mapping with the keys"),
        ("", "this config file is empty; expected keys such as name"),
        ("a: [", "line 1, column 5: not valid YAML"),
        ("\x00", "not valid YAML"),
        ("!!python/object/apply:os.system ['echo hi']", "line 1, column 1: not valid YAML: could not determine"),
    ],
)
def test_a_bad_file_is_named_with_the_key_or_the_place(tmp_path: Path, text: str, expected: str) -> None:
    file = written(tmp_path, text)
    assert complaint(file).startswith(f"{file}: {expected}")


def test_a_key_beside_a_merged_one_overrides_it(tmp_path: Path) -> None:
    file = written(tmp_path, "train: {<<: {epochs: 2, batch_size: 7}, epochs: 3}\n")
    assert (read_config(file).train.epochs, read_config(file).train.batch_size) == (3, 7)


def test_text_options_on_the_command_line_take_any_word() -> None:
    for word in ("yes", "NO", "010", "2021_05"):
        assert read_config(None, [f"--name={word}"]).name == word


def test_only_an_optional_text_can_be_null_on_the_command_line() -> None:
    config = read_config(None, ["--output=null", "--name=null", "--graph.file="])
    assert (config.output, config.name, config.graph.file) == (None, "null", "")


def test_overrides_set_part_of_a_mapping_and_append_to_a_list(tmp_path: Path) -> None:
    file = written(tmp_path, "graph: {family: path, agents: 6}\ntrain: {levels: [2]}\nnetwork: {width: {a: 2, b: 4}}\n")
    config = read_config(file, ["--graph={agents: 5}", "--train.levels+=4", "--train.levels+=[8, 16]"])
    assert (config.graph.family, config.graph.agents, config.train.levels) == ("path", 5, [2, 4, 8, 16])
    assert read_config(file, ["--network.width={c: 6}"]).network.width == {"c": 6}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "no such config file" in complaint(str(tmp_path / "none.yaml"))
    assert "got a directory" in complaint(str(tmp_path))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\x89PNG\r\n\xff\xfe")
    assert "got a binary file" in complaint(str(binary))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--network.width=3", "network.width: expected an even number >= 2"),
        ("--network.width=0", "network.width: expected an even number >= 2"),
        ("--network.width=-2", "network.width: expected an even number >= 2"),
        ("--network.width={a: 2, b: 5}", "network.width.b: expected an even number >= 2"),
        ("--network.width={}", "network.width: expected an even number or a mapping"),
        ("--network.layers=0", "network.layers: expected a number >= 1, got 0"),
        ("--network.layers=-3", "network.layers: expected a number >= 1, got -3"),
        ("--network.step=0", "network.step: expected a number > 0, got 0"),
        ("--network.step=-0.5", "network.step: expected a number > 0, got -0.5"),
        ("--graph.agents=0", "graph.agents: expected a number >= 1, got 0"),
        ("--graph.agents=-8", "graph.agents: expected a number >= 1, got -8"),
        ("--graph.probability=1.5", "graph.probability: expected a number from 0 to 1"),
        ("--more_graphs=[{agents: 0}]", "more_graphs[0].agents: expected a number >= 1, got 0"),
        ("--train.epochs=0", "train.epochs: expected a number >= 1, got 0"),
        ("--train.batch_size=0", "train.batch_size: expected a number >= 1, got 0"),
        ("--train.learning_rate=0", "train.learning_rate: expected a number > 0, got 0"),
        ("--train.smoothness=-1", "train.smoothness: expected a number >= 0, got -1"),
        ("--train.threads=0", "train.threads: expected a number >= 1, got 0"),
        ("--data.samples=0", "data.samples: expected a number >= 4, got 0"),
        ("--data.noise=-1", "data.noise: expected a number >= 0, got -1"),
        ("--data.test_fraction=1", "data.test_fraction: expected a number between 0 and 1, got 1"),
        ("--data.name=file", "data.file: expected the path of a .csv or .npz file"),
        (
            "--data.file=x.csv",
            "data.file: expected none, because data.name=swiss_roll does not use it; leave it out, or set",
        ),
        ("--network.K.kind=identity", "network.K.kind: identity is for network.X only"),
        ("--network.K.kind=matrix", "network.K.file: expected the path of a 0/1 matrix"),
        ("--network.K.keep=2", "network.K.keep: expected a number from 0 to 1, got 2"),
        ("--sensors=[{feature: -1, agent: 0}]", "sensors[0].feature: expected a number >= 0, got -1"),
        ("--network.gamma=0.1", "network.gamma: expected nothing, because the architecture hamiltonian does not use"),
        ("--network.J=J2", "network.J: expected nothing, because the architecture hamiltonian does not use it"),
        ("--network.integrator=forward_euler", "network.integrator: expected one of semi_implicit, stormer_verlet"),
        (
            "--network.time=1",
            "network.time: expected free, shared, or a number of knots from 2 to the 16 layers, got 1",
        ),
        ("--network.time=17", "network.time: expected free, shared, or a number of knots from 2 to the 16 layers"),
        ("--seed=-1", "seed: expected a number >= 0, got -1"),
        ("--name=a/b", "name: expected the name of a folder, got 'a/b'; use --output for a path"),
        ("--output=", "output: expected the path of a run directory, got an empty text"),
        ("--device=gpu", "device: expected cpu, cuda or cuda:<number>, got 'gpu'"),
        ("--graph.file=", "graph.file: expected the path of a graph file, got an empty text"),
    ],
)
def test_a_value_that_cannot_work_is_refused(override: str, expected: str) -> None:
    assert complaint(None, override).startswith(expected)


def test_every_graph_has_a_layer() -> None:
    two = "--more_graphs=[{family: path}, {family: star}]"
    assert complaint(None, two, "--network.layers=2") == (
        "more_graphs: expected at most 1 beside graph, one graph for each of the 2 layers of network.layers, got 2; "
        "drop 1, or raise network.layers"
    )
    assert "the 2 layers of the shallowest of train.levels, got 2" in complaint(None, two, "--train.levels=[2, 16]")
    validate(read_config(None, [two, "--network.layers=3"]))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["--network.architecture=antisymmetric", "--network.gamma=-1"], "network.gamma: expected a damping >= 0"),
        (["--network.architecture=MS3", "--network.X.kind=neighbours"], "network.X: expected nothing, because"),
        (["--network.architecture=H1", "--network.X.kind=neighbours"], "network.X: expected nothing with J1"),
        (
            ["--network.keep_dtype=bfloat16", "--dtype=float64"],
            "network.keep_dtype: expected bfloat16 with dtype=float32",
        ),
        (["--network.keep_dtype=bfloat16", "--network.memory=reversible"], "network.keep_dtype: expected nothing with"),
    ],
)
def test_options_that_an_architecture_does_not_read_are_refused(overrides: list[str], expected: str) -> None:
    assert complaint(None, *overrides).startswith(expected)


def test_the_names_in_the_config_are_those_of_the_registry() -> None:
    assert set(typing.get_args(ArchitectureName)) == set(ARCHITECTURES)
    assert set(typing.get_args(IntegratorName)) == set(INTEGRATORS)
    for name in ARCHITECTURES:
        config = read_config(None, [f"--network.architecture={name}", "--network.time=4"])
        validate(config)
        assert config.network.time == 4


def test_part_of_a_config_may_come_from_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text("family: path\nagents: 5\n", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("famly: path\n", encoding="utf-8")
    assert read_config(None, [f"--graph={tmp_path / 'graph.yaml'}"]).graph.agents == 5
    assert "unknown key graph.famly; did you mean graph.family?" in complaint(None, f"--graph={tmp_path / 'bad.yaml'}")


def test_a_config_for_python_needs_no_file() -> None:
    config = Config(seed=1)
    config.network.K = PatternConfig(kind="hops", hops=2)
    validate(config)
    assert config == read_config(None, ["--seed=1", "--network.K.kind=hops", "--network.K.hops=2"])
    config.network.K.hops = -1
    with pytest.raises(ValueError, match=r"network\.K\.hops"):
        validate(config)


CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.stem))
def test_nested_options_make_the_config_that_its_file_makes(file: Path) -> None:
    config = read_config(file)
    assert config_from(yaml.safe_load(file.read_text(encoding="utf-8"))) == config
    assert config_from(dataclasses.asdict(config)) == config


def test_nested_options_have_the_types_of_their_fields() -> None:
    graphs = [{"family": "grid", "agents": 4, "probability": 1}]
    config = config_from({"network": {"width": {"a": 2}, "step": "1e-1"}, "more_graphs": graphs, "timeout": 5})
    assert config.network.width == {"a": 2} and config.network.step == 0.1 and config.timeout == 5.0
    assert isinstance(config.more_graphs[0], GraphConfig) and isinstance(config.more_graphs[0].probability, float)
    for wrong in ({"network": {"layer": 3}}, {"seed": "one"}, {"more_graphs": [{"agents": None}]}):
        with pytest.raises(ValueError, match="expected|did you mean"):
            config_from(wrong)
