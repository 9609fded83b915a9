"""Name the open line from what every bus says about its own lines, for the test samples of runs.

    python examples/power_grid/name_line.py runs/power_grid/<run>

A link scores the sum of the log odds of its two ends that one of their lines is open; parallel lines are one link.
"right line" counts the samples with an open line whose link scores highest. "right answer" counts all samples, with
"nothing is open" among the answers at a score of 0: were the buses' answers independent, the highest score would be
the likeliest explanation of them all.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import dist_hdnn


def scores(shares: np.ndarray, links: np.ndarray) -> np.ndarray:
    """Return the score of each link (samples, links); shares: (samples, buses), probabilities of an open line."""
    shares = shares.clip(1e-12, 1 - 1e-12)
    odds = np.log(shares) - np.log1p(-shares)
    return odds[:, links[:, 0]] + odds[:, links[:, 1]]


def shares_right(score: np.ndarray, line: np.ndarray) -> tuple[float, float]:
    """Return the shares of right lines and right answers; score: (samples, links). line: open links, -1 for none."""
    named, opened = score.argmax(axis=1), line >= 0
    answer = np.where(score.max(axis=1) > 0, named, -1)
    return float((named == line)[opened].mean()), float((answer == line).mean())


def of_run(directory: str | Path, part: str = "test") -> dict[str, float]:
    """Return the figures of a run: right lines and answers, its agents' accuracy, bytes per prediction, parameters."""
    run = dist_hdnn.load_run(directory)
    file = Path(run.config.data.file)
    lines, readings = np.load(file.with_name("lines.npz")), np.load(file)[f"{part}_x"]
    answers = run.answers(readings.reshape(len(readings), -1))
    shares = np.concatenate([each.probabilities[:, :, 1] for each in answers])
    right_line, right_answer = shares_right(scores(shares, lines["links"]), lines[part])
    summary = json.loads((run.directory / "summary.json").read_text())
    keys = ("mean_agent_accuracy", "worst_agent_accuracy", "bytes_per_prediction", "parameters")
    return {"right_line": right_line, "right_answer": right_answer} | {key: summary[key] for key in keys}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", help="directories or names of runs")
    parser.add_argument("--part", default="test", choices=("train", "validation", "test"))
    options = parser.parse_args()
    for run in options.runs:
        figures = of_run(run, options.part)
        print(
            f"{run}: right line {figures['right_line']:.1%}, right answer {figures['right_answer']:.1%}, "
            f"{figures['bytes_per_prediction']:.0f} bytes per prediction"
        )


if __name__ == "__main__":
    main()
