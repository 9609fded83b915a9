"""F14, F17, F27: files that are damaged, foreign or hostile end in one line that names them; nothing in them runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.conftest import Outcome
from faults.faulty import environment
from faults.small import NIGHTLY
from faults.test_damaged import Payload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dist_hdnn import cli
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.data.readers import idx as published
from dist_hdnn.topology import CommunicationGraph, read_graph
from dist_hdnn.topology.readers import FORMATS
from dist_hdnn.training.checkpoints.manifest import NAME, CheckpointError, Manifest, read_manifest, verify

EXAMPLES = settings(
    max_examples=500 if NIGHTLY else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
GRAPHML = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected">
<node id="a"/><node id="b"/><edge source="a" target="b"/></graph></graphml>"""
BOMB = '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
GML = "graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 ] ]"
JSON = '{"nodes": [{"id": 0}, {"id": 1}], "edges": [{"source": 0, "target": 1}]}'
BAD: list[tuple[str, str | bytes]] = [
    ("empty.graphml", ""),
    ("blank.edges", " \n"),
    ("comment.edges", "# only a comment\n"),
    ("cut.graphml", GRAPHML[:-20]),
    ("cut.gml", GML[:-4]),
    ("cut.json", JSON[:-4]),
    ("binary.graphml", b"\x89PNG\r\n\x1a\n\x00\x00"),
    ("binary.gml", b"\x89PNG\r\n\x1a\n\x00\x00"),
    ("binary.edges", b"\x00\x01\x02"),
    ("latin.edges", "a b\nä ö\n".encode("latin-1")),
    ("other.gml", GRAPHML),
    ("other.json", GML),
    ("other.edges", JSON),
    ("text.graphml", "0 1\n"),
    ("html.graphml", "<html><body/></html>"),
    ("unknown.gexf", GRAPHML),
    ("nosuffix", GRAPHML),
    ("directed.graphml", GRAPHML.replace("undirected", "directed")),
    ("directed.json", JSON.replace("{", '{"directed": true, ', 1)),
    ("bomb.graphml", GRAPHML.replace("<graphml", BOMB + "<graphml")),
    ("undeclared.graphml", GRAPHML.replace('target="b"', 'target="c"')),
    ("twice.graphml", GRAPHML.replace('id="b"', 'id="a"').replace('target="b"', 'target="a"')),
    ("none.gml", "graph [ ]"),
    ("range.json", JSON.replace('"target": 1', '"target": 5')),
    ("target.json", JSON.replace('"target": 1', '"to": 1')),
    ("list.json", "[1, 2]"),
    ("columns.edges", "a b\nb c d e\n"),
    ("weight.edges", "a b heavy\n"),
    ("commas.txt", "a,b\n"),
    ("deep.json", "[" * 100_000),
]
LINES = {"columns.edges": "line 2", "weight.edges": "line 1", "commas.txt": "line 1"}
REFUSING = """
import contextlib, io, json, sys, time
from dist_hdnn.cli import main
before = 0.0
for path in sys.argv[2:]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(["train", f"--graph.file={path}", "--workers=2", f"--output={sys.argv[1]}"])
    now = time.process_time()
    found = {"code": code, "said": said.getvalue(), "seconds": now - before, "torch": "torch" in sys.modules}
    print(json.dumps(found), flush=True)
    before = now
"""


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_F17_a_bad_graph_file_is_refused_at_once(tmp_path: Path, outcome: Outcome) -> None:
    """All by one process, whose start counts as part of the first."""
    for name, content in BAD:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    command = [sys.executable, "-c", REFUSING, str(tmp_path / "run"), *(str(tmp_path / name) for name, _ in BAD)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr
    for (name, _), line in zip(BAD, done.stdout.splitlines(), strict=True):
        found = json.loads(line)
        said, used = found["said"], found["seconds"]
        with outcome.trial(f"{name}: {said}", used):
            assert found["code"] == 2
            assert used < 2, "seconds of processor time"
            assert str(tmp_path / name) in said and len(said.splitlines()) == 1, "one line names the file"
            assert LINES.get(name, "") in said, "the line of the file is named"
            assert not found["torch"], "torch is not imported"
    assert outcome.tried == 30 and not (tmp_path / "run").exists()


SUFFIXES = tuple(suffix for one in FORMATS.values() for suffix in one.suffixes)


@pytest.mark.filterwarnings("ignore")
@EXAMPLES
@given(
    start=st.sampled_from(
        [
            *(GRAPHML, GML, JSON, "a b\nb c 1.5\n", "source,target\na,b\n", "", "graph [", "{", "<graphml>"),
            *("graph { a -- b }", "*Vertices 2\n*Edges\n1 2\n", "2 1\n2\n1\n", "0,1\n1,0\n", "A_", ":An", "# a\nb\n"),
            *(
                "<gexf><graph/></gexf>",
                "%%MatrixMarket matrix coordinate pattern symmetric\n2 2 1\n2 1\n",
                "% sym\n1 2\n",
            ),
            *("function mpc = a\nmpc.bus = [1;2];\nmpc.branch = [1 2];", "nodedef>name\na\nedgedef>node1,node2\na,a\n"),
        ]
    ),
    more=st.text(max_size=60),
    place=st.floats(0, 1),
    suffix=st.sampled_from(SUFFIXES),
)
def test_F17_any_graph_file_is_a_graph_or_one_line(
    tmp_path: Path, start: str, more: str, place: float, suffix: str
) -> None:
    cut = int(place * len(start))
    path = tmp_path / f"g{suffix}"
    path.write_bytes((start[:cut] + more + start[cut:]).encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(read_graph(path), CommunicationGraph)
    except ValueError as refusal:
        assert str(path) in str(refusal) and "\n" not in str(refusal)


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["graph", "network", "train", "family", "agents", "width", "layers", "epochs", "seed", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.mark.filterwarnings("ignore")
@EXAMPLES
@given(document=VALUES | st.text(max_size=60))
def test_F17_any_config_is_a_config_or_one_line(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "config.yaml"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(read_config(path), Config)
    except ValueError as refusal:
        assert "\n" not in str(refusal)


@EXAMPLES
@given(document=st.dictionaries(st.sampled_from([*Manifest.__dataclass_fields__, "x"]), VALUES) | VALUES)
def test_F17_any_manifest_is_a_manifest_or_unusable(tmp_path: Path, document: Any) -> None:
    rest = json.dumps(document).encode()
    rest = rest[1:] + b"\n" if rest.startswith(b"{") else rest
    first = f'{{"sha256": "{hashlib.sha256(rest).hexdigest()}",\n'.encode()
    (tmp_path / NAME).write_bytes(first + rest)
    try:
        verify(tmp_path, read_manifest(tmp_path))
    except CheckpointError as refusal:
        assert refusal.exit_code == 4 and "\n" not in str(refusal)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("", "config.yaml"),
        ("--graph.file=", "graph.json"),
        ("--graph.file=", "graph.edges"),
        ("--data.name=file --data.file=", "data.npz"),
        ("--data.name=file --data.file=", "data.csv"),
        ("--data.name=mnist --data.folder=", "idx"),
    ],
)
def test_F14_a_pickle_as_config_graph_or_data_never_runs(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof, path = tmp_path / "proof", tmp_path / name
    hostile = pickle.dumps(Payload(proof))
    if name == "data.npz":
        np.savez(path, x=np.array([Payload(proof)], dtype=object), y=np.zeros(1, np.int64))
    elif name == "idx":
        path.mkdir()
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            (path / f"{part}-ubyte").write_bytes(hostile)
    else:
        path.write_bytes(hostile)
    *given_, last = f"{option}{path}".split(" ") if option else [str(path)]
    assert cli.main(["train", *given_, last, f"--output={tmp_path / 'run'}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not proof.exists() and not (tmp_path / "run").exists()


def test_F14_a_tag_in_a_config_never_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proof, path = tmp_path / "proof", tmp_path / "config.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {proof}']\n")
    assert cli.main(["train", str(path), f"--output={tmp_path / 'run'}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not proof.exists()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


IMAGES, LABELS = idx(np.zeros((8, 28, 28))), idx(np.arange(8) % 10)
FILES = {
    "train-images-idx3-ubyte.gz": IMAGES,
    "train-labels-idx1-ubyte.gz": LABELS,
    "t10k-images-idx3-ubyte.gz": IMAGES,
    "t10k-labels-idx1-ubyte.gz": LABELS,
}
DAMAGES = {
    "foreign": lambda content: content,
    "half downloaded": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a web page": lambda content: b"<html>404</html>",
    "one bit": lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_F27_a_damaged_data_file_is_refused(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {part: hashlib.sha256(content).hexdigest() for part, content in _parts().items()}
    if damage != "foreign":
        monkeypatch.setitem(published.SHA256, "mnist", digests)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(gzip.compress(content, mtime=0))
    victim = tmp_path / "t10k-images-idx3-ubyte.gz"
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    arguments = ["train", "--data.name=mnist", f"--data.folder={tmp_path}", f"--output={tmp_path / 'run'}"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    named = "train-images" if damage == "foreign" else victim.name
    assert len(said.splitlines()) == 1 and named in said
    assert not (tmp_path / "run").exists()


def _parts() -> dict[str, bytes]:
    return {"train_x": IMAGES, "train_y": LABELS, "test_x": IMAGES, "test_y": LABELS}


@pytest.mark.parametrize("damage", ["half downloaded", "a web page"])
def test_F27_a_download_that_is_not_whole_leaves_no_file(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = DAMAGES[damage](gzip.compress(IMAGES))
    monkeypatch.setattr(published, "CACHE", tmp_path)
    monkeypatch.setattr(published, "HERE", tmp_path / "here")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(answer))
    began = time.monotonic()
    with pytest.raises(ValueError) as refusal:
        published.published("mnist", None, download=True)
    assert "\n" not in str(refusal.value) and time.monotonic() - began < 30
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
