"""Weights belong to agents: where the graph of a run has changed since, they are not read."""

import pytest

from dist_hdnn import experiment
from dist_hdnn.config.files import read_config
from dist_hdnn.training.checkpoint import CheckpointError


def test_a_run_whose_graph_file_has_changed_is_not_evaluated(tmp_path) -> None:
    file = tmp_path / "net.csv"
    file.write_text("source,target\na,b\nb,c\nc,d\n")
    options = [f"--graph.file={file}", "--train.epochs=1", "--network.layers=2", "--data.samples=40", "--plots=false"]
    run = experiment.train(read_config(None, [*options, f"--output={tmp_path / 'run'}"]))
    before = experiment.evaluate(run)
    file.write_text("target,source\nd,c\nb,a\nb,c\n")  # the same links
    assert experiment.evaluate(run) == before
    for other in ("source,target\na,b\nb,d\nc,d\n", "source,target\na,b\nb,e\ne,f\n"):
        file.write_text(other)
        with pytest.raises(
            CheckpointError, match="expected the graph that the run was trained on, got other agents, links"
        ):
            experiment.evaluate(run)
