"""Accuracy of a classifier: of its prediction, and of every agent where agents predict for themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.model.readout import LocalReadout
from dist_hdnn.training.classifier import AgentClassifier

EVALUATION_BATCH = 1000  # samples: small enough for wide networks, large enough to cost little


@dataclass(frozen=True)
class Evaluation:
    """Shares between 0 and 1. `accuracy` is the prediction's, with a local readout the majority vote's.

    per_agent: accuracy of each agent, None for readouts without predictions of single agents.
    """

    loss: float
    accuracy: float
    per_agent: list[float] | None

    @property
    def mean_agent(self) -> float | None:
        """Mean accuracy of the agents."""
        return None if self.per_agent is None else sum(self.per_agent) / len(self.per_agent)

    @property
    def worst_agent(self) -> float | None:
        """Accuracy of the worst agent."""
        return None if self.per_agent is None else min(self.per_agent)


@torch.no_grad()
def evaluate(model: AgentClassifier, x: Tensor, labels: Tensor) -> Evaluation:
    """Loss and accuracies on x (samples, features), labels (samples,), in batches that bound the memory."""
    loss, right, right_by_agent = 0.0, 0, None
    for part, target in zip(x.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        scores = model(part)
        loss += float(model.readout.loss(scores, target)) * len(part)
        right += int((model.readout.predict(scores) == target).sum())
        if isinstance(model.readout, LocalReadout):
            hits = (scores.argmax(dim=-1) == target[:, None]).sum(dim=0)
            right_by_agent = hits if right_by_agent is None else right_by_agent + hits
    samples = len(x)
    per_agent = None if right_by_agent is None else (right_by_agent.double() / samples).tolist()
    return Evaluation(loss / samples, right / samples, per_agent)
