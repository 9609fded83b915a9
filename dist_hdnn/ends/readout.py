"""Readouts: maps from the last state to class scores, or to real targets.

    sum      one linear map over all agents: a global sum of every agent's scores
    local    every agent answers from its own block; loss is the agents' mean, prediction their majority
    agents   the same, by a few designated agents
    gossip   every agent's scores, averaged with its neighbors' over some rounds before it decides

With regression the scores are the targets themselves, the loss is the mean squared error, agents predict their mean.
With own targets every agent of `local` or `agents` has an answer of its own, and missing ones count nowhere.

All hold one weight per class and neuron, (classes, neurons). `sum` needs one global sum per sweep, `gossip` messages
between neighbors, `local` and `agents` no communication.
Shapes: state (batch, neurons of the owned agents), columns agent by agent; labels (batch,), targets (batch, classes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dist_hdnn.data.checks import MISSING
from dist_hdnn.ends.agent_blocks import AgentBlocks
from dist_hdnn.ends.gossip import MetropolisAverage
from dist_hdnn.ends.targets import check_scores, checked_own, checked_targets, class_losses, known, losses
from dist_hdnn.network.keyed_random import Purpose, normal
from dist_hdnn.network.ownership import Ownership, Shard
from dist_hdnn.network.sharing import register_holder, share_state
from dist_hdnn.sweep.surroundings import check_columns, check_kind, opaque, under_autocast
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges


class SumReadout(nn.Module):
    """scores = Σ over agents of W_i y_i, plus a bias.

    W ~ N(0, 1 / neurons), keyed by (seed, class, agent). The bias belongs to the worker of agent 0; elsewhere it is
    empty. In a deterministic network the agents' scores are summed in ascending order, so that the bits do not depend
    on the workers.
    """

    own = False

    def __init__(self, ownership: Ownership, classes: int, seed: int = 0, regression: bool = False) -> None:
        super().__init__()
        self.ownership, self.classes, self.regression = ownership, classes, regression
        scale = 1.0 / math.sqrt(ownership.all_widths.sum())
        self.weight = nn.Parameter(_initial(ownership, ownership.agents, classes, seed) * scale)
        owns_bias = 0 in ownership.agents
        self.bias = nn.Parameter(torch.zeros(classes if owns_bias else 0))
        self.blocks = AgentBlocks(ownership, ownership.agents)
        bias = Shard(0, classes, np.arange(classes if owns_bias else 0))
        self.shards = {"weight": ownership.shard_of_agents(ownership.all_widths, dimension=1), "bias": bias}
        share_state(self, ownership, self.shards, seed)

    def forward(self, state: Tensor) -> Tensor:
        """Map (batch, neurons) to scores (batch, classes), the same on all workers."""
        register_holder(self, self.ownership)
        _check_state(state, self.ownership, self.weight)
        if self.ownership.deterministic:
            return self._in_order(state)
        rows = state.t()  # contiguous, as a sweep gives it, and so is its gradient then
        scores = torch.addmm(self.bias[:, None], self.weight, rows) if len(self.bias) else self.weight @ rows
        return all_reduced(scores.t().contiguous(), self.ownership)

    def _in_order(self, state: Tensor) -> Tensor:
        scores = torch.einsum("baw,caw->bac", self.blocks(state), self.blocks(self.weight))
        if len(self.bias):
            scores = torch.cat([scores[:, :1] + self.bias, scores[:, 1:]], dim=1)
        index = torch.from_numpy(self.ownership.agents).to(state.device)
        everyone = scores.new_zeros(len(state), self.ownership.graph.agents, self.classes)
        everyone = all_reduced(everyone.index_copy(1, index, scores), self.ownership)
        return everyone.sum(dim=1)

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy or squared error, (1,), the same on all workers.

        labels: classes (batch,), or targets (batch, targets). Raises ValueError for another shape or an unknown class.
        """
        check_scores(scores, (self.classes,))
        _note(self.ownership, scores, labels)
        return losses(scores, checked_targets(labels, scores, self.regression), self.regression, "mean").reshape(1)

    def reported_loss(self, loss: Tensor) -> float:
        """Return the loss of the whole network, from the result of `loss` here."""
        return float(loss.detach().sum())

    def amount(self, labels: Tensor) -> int:
        """Count the answers over which `loss` is the mean: the samples."""
        return len(labels)

    def predict(self, scores: Tensor, down: Tensor | None = None) -> Tensor:
        """Return the class (batch,) of scores (batch, classes), or the targets as they are.

        down: as in `LocalReadout.predict`; the share of an agent that is down is zero already.
        """
        check_scores(scores, (self.classes,))
        return scores if self.regression else scores.argmax(dim=-1)


class LocalReadout(nn.Module):
    """scores_i = W_i y_i + bias_i for every output agent i, without communication.

    W_i ~ N(0, 1 / neurons of agent i), keyed by (seed, class, agent). output_agents: global numbers, None for every
    agent. own: each of them has targets of its own, see `targets`, in labels in the order of `output_agents` as given;
    with shared targets all have those of the sample. Scores go agent by agent, ascending.
    Several workers: `loss` is of this worker's agents, `predict` of all. All workers see all labels.
    """

    def __init__(
        self,
        ownership: Ownership,
        classes: int,
        seed: int = 0,
        output_agents: Sequence[int] | None = None,
        regression: bool = False,
        own: bool = False,
    ) -> None:
        super().__init__()
        self.ownership, self.classes, self.regression, self.own = ownership, classes, regression, own
        everyone = np.arange(ownership.graph.agents)
        given = everyone if output_agents is None else np.asarray(output_agents, np.int64)
        if len(np.unique(given)) < len(given) or not np.isin(given, everyone).all():
            raise ValueError(
                f"readout: expected different output agents from 0 to {len(everyone) - 1}, got {given.tolist()}. "
                "Correct output_agents."
            )
        self.output_agents, self.columns = np.unique(given, return_index=True)  # columns: of the labels of each
        self.agents = np.intersect1d(ownership.agents, self.output_agents)
        widths = ownership.all_widths[self.agents]
        scale = torch.from_numpy(np.repeat(widths, widths) ** -0.5).to(torch.get_default_dtype())
        self.weight = nn.Parameter(_initial(ownership, self.agents, classes, seed) * scale)
        self.bias = nn.Parameter(torch.zeros(len(self.agents), classes))
        self.blocks = AgentBlocks(ownership, self.agents)
        self.weight_blocks = AgentBlocks(ownership, self.agents, of_agents_only=True)
        self.places = np.searchsorted(self.output_agents, self.agents)
        sizes = ownership.all_widths[self.output_agents]
        index = ragged_ranges(offsets(sizes)[self.places], sizes[self.places])
        self.shards = {
            "weight": Shard(1, int(sizes.sum()), index),
            "bias": Shard(0, len(self.output_agents), self.places),
        }
        share_state(self, ownership, self.shards, seed)

    def forward(self, state: Tensor) -> Tensor:
        """Map (batch, neurons) to scores of this worker's output agents (batch, agents, classes)."""
        register_holder(self, self.ownership)
        _check_state(state, self.ownership, self.weight)
        scores = torch.einsum("baw,caw->bac", self.blocks(state), self.weight_blocks(self.weight))
        if not self.ownership.deterministic:
            return scores + self.bias
        ones = state.new_ones(scores.shape[1], len(state), 1)  # a product per agent: its gradient is no other agent's
        return scores + torch.bmm(ones, self.bias.unsqueeze(1)).transpose(0, 1)

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the share of each agent in the mean loss over agents and samples, (agents,), which sum to the loss.

        On several workers the agents are this worker's. labels: as in `SumReadout.loss`; own targets are those of all
        answering agents, (batch, agents) classes or (batch, agents, targets), and the mean is over the known ones.
        """
        check_scores(scores, (len(self.agents), self.classes))
        _note(self.ownership, scores, labels)
        if self.own:
            return self._own_loss(scores, labels)
        labels = checked_targets(labels, scores, self.regression)
        share = 1.0 / max(len(labels) * len(self.output_agents), 1)
        if self.ownership.deterministic:  # one agent at a time, so that no bit depends on which agents are here
            parts = (scores[:, i].contiguous() for i in range(scores.shape[1]))
            each = [losses(part, labels, self.regression, "sum") for part in parts]
            return share * torch.stack(each) if each else scores.sum().reshape(1)[:0]
        target = labels.repeat_interleave(scores.shape[1], dim=0)
        each_sample = losses(scores.flatten(0, 1), target, self.regression, "none")
        return share * each_sample.view(scores.shape[:2]).sum(dim=0)

    def _own_loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return each agent's sum of losses of its own known targets, divided by the number of known ones of all."""
        labels = checked_own(labels, scores, len(self.output_agents), self.regression)
        share, mine = 1.0 / max(self.amount(labels), 1), labels[:, self.columns[self.places]]

        def sums(scores: Tensor, mine: Tensor) -> Tensor:
            if self.regression:
                return torch.where(known(mine), scores - mine.nan_to_num(), 0.0).square().sum(dim=(0, 2))
            each = class_losses(scores.flatten(0, 1), mine.flatten(), "none", MISSING)
            return each.view(mine.shape).sum(dim=0)

        if self.ownership.deterministic:  # one agent at a time, so that no bit depends on which agents are here
            parts = [slice(i, i + 1) for i in range(len(self.agents))]
            each = [sums(scores[:, i].contiguous(), mine[:, i].contiguous()) for i in parts]
            return share * torch.cat(each) if each else scores.sum().reshape(1)[:0]
        return share * sums(scores, mine)

    def amount(self, labels: Tensor) -> int:
        """Count the answers over which `loss` is the mean: the samples, or the known ones of own targets."""
        return int(known(labels).sum()) if self.own else len(labels)

    def reported_loss(self, loss: Tensor) -> float:
        """Return the loss of the whole network, summed over all agents in order. Booked as metrics."""
        everyone = torch.zeros(len(self.output_agents), dtype=torch.float64, device=loss.device)
        everyone[self.places] = loss.detach().double()
        return float(summed(everyone, self.ownership).sum())

    def predict(self, scores: Tensor, down: Tensor | None = None) -> Tensor:
        """Return the majority vote of the output agents, (batch,), or for a regression their mean, (batch, targets).

        A tie goes to the larger mean share. With own targets return every agent's own answer in the order of labels,
        (batch, agents) or (batch, agents, targets). Booked as metrics.
        down: (batch, agents of the graph), agents that do not answer; where none does, the class is -1, the target 0.
        """
        check_scores(scores, (len(self.agents), self.classes))
        scores = scores.detach()
        if self.own:
            answers = scores.double() if self.regression else scores.argmax(dim=-1)
            everyone = answers.new_zeros(len(answers), len(self.output_agents), *answers.shape[2:])
            everyone[:, self.columns[self.places]] = answers
            return summed(everyone, self.ownership)
        if self.regression:
            return self._mean(scores.double(), down)
        votes, shares = one_hot(scores.argmax(dim=-1), self.classes), scores.double().softmax(dim=-1)
        if down is not None:
            up = ~down[:, self.agents, None]
            votes, shares = votes * up, shares * up
        votes = votes.sum(dim=1)
        shares = shares.sum(dim=1) / len(self.output_agents)  # in [0, 1]: never outweighs one
        winner = summed(votes + 0.5 * shares, self.ownership).argmax(dim=-1)
        return winner if down is None else winner.masked_fill(down[:, self.output_agents].all(dim=1), -1)

    def _mean(self, answers: Tensor, down: Tensor | None) -> Tensor:
        """Return the mean over all output agents that are up, (batch, targets)."""
        if down is None:
            return summed(answers.sum(dim=1) / len(self.output_agents), self.ownership)
        total = summed(answers.masked_fill(down[:, self.agents, None], 0.0).sum(dim=1), self.ownership)
        return total / (~down[:, self.output_agents]).sum(dim=1, keepdim=True).clamp(min=1)


class GossipReadout(LocalReadout):
    """Local scores, averaged with the neighbors' for some rounds before each agent decides as in `local`.

    rounds: Metropolis averaging rounds; many of them approach the mean of a connected graph. Neighbors only.
    """

    def __init__(
        self, ownership: Ownership, classes: int, seed: int = 0, rounds: int = 4, regression: bool = False
    ) -> None:
        super().__init__(ownership, classes, seed, regression=regression)
        self.average = MetropolisAverage(ownership, rounds)

    def forward(self, state: Tensor) -> Tensor:
        """Map (batch, neurons) to averaged scores of this worker's agents (batch, agents, classes)."""
        return self.average(super().forward(state))  # type: ignore[no-any-return]


class _AllReduce(torch.autograd.Function):
    """forward: sum over all workers. backward: the gradient unchanged, because all workers compute the same loss."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ownership: Ownership) -> Tensor:
        total = values.detach().clone()
        ownership.all_reduce(total, "readout")
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


@opaque
def all_reduced(values: Tensor, ownership: Ownership) -> Tensor:
    """Return the sum over all workers, differentiable. One global sum, booked as readout."""
    if ownership.alone:
        return values
    return _AllReduce.apply(values, ownership)  # type: ignore[no-any-return, no-untyped-call]


def summed(values: Tensor, ownership: Ownership) -> Tensor:
    """Return the sum over all workers of values to report. Booked as metrics."""
    if not ownership.alone:
        ownership.all_reduce(values, "metrics")
    return values


def _initial(ownership: Ownership, agents: IntArray, classes: int, seed: int) -> Tensor:
    """Return standard normal weights (classes, neurons), keyed by (seed, class, agent, neuron of the agent)."""
    widths = ownership.all_widths[agents]
    owners = np.repeat(agents, widths).astype(np.uint64)
    neurons = ragged_ranges(np.zeros_like(widths), widths).astype(np.uint64)
    rows = [normal(seed, Purpose.READOUT, 0, np.full_like(owners, c), owners, neurons) for c in range(classes)]
    return torch.from_numpy(np.stack(rows)).to(torch.get_default_dtype())


def _check_state(state: Tensor, ownership: Ownership, like: Tensor) -> None:
    remedy = "Give the last state of the network, net(y)."
    check_columns(state, int(ownership.widths.sum()), ownership.all_widths, "readout", remedy)
    if not under_autocast(state):  # which converts by itself
        check_kind(state, like, "readout")


def _note(ownership: Ownership, scores: Tensor, labels: Tensor) -> None:
    if scores.requires_grad:  # without gradients, workers may look at different losses
        ownership.note("labels", labels)


Readout = SumReadout | LocalReadout
KINDS = ("sum", "local", "gossip", "agents")


def make_readout(
    kind: str,
    ownership: Ownership,
    classes: int,
    seed: int = 0,
    rounds: int = 4,
    output_agents: Sequence[int] | None = None,
    regression: bool = False,
    own: bool = False,
) -> Readout:
    """Make the readout of a kind for this worker's part of a network.

    classes: with regression the number of targets. own: agents have targets of their own, with local and agents.
    Raises ValueError for an unknown kind, and for own targets of one that has no answer of each agent.
    """
    if own and kind not in ("local", "agents"):
        raise ValueError(
            f"readout.kind: expected local or agents for targets of each agent's own, got {kind}, which makes one "
            "answer of all. Choose local."
        )
    if kind == "sum":
        return SumReadout(ownership, classes, seed, regression)
    if kind == "local":
        return LocalReadout(ownership, classes, seed, output_agents or None, regression, own)
    if kind == "gossip":
        return GossipReadout(ownership, classes, seed, rounds, regression)
    if kind == "agents" and output_agents:
        return LocalReadout(ownership, classes, seed, output_agents, regression, own)
    raise ValueError(
        f"readout.kind: expected one of {', '.join(KINDS)} (the last with a list of agents), got {kind!r}. "
        "Choose one of these."
    )
