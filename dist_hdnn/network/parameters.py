"""Initial values of a network's weights, each drawn from its own key by the worker that owns it.

K     N(0, scale² / row length), so that K x starts with variance scale² for x of unit variance
b     N(0, 0.1²)
X     1 plus a tenth of such noise as K; a trained J, J1 plus a tenth of it

Initial values "wave" carry signals along the graph instead, see `Matrix.wave`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.network.arguments import skew_entries
from dist_hdnn.network.keyed_random import Purpose, block_keys, normal
from dist_hdnn.operators.sparsity import BlockOperator
from dist_hdnn.topology import BlockPattern
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges

FloatArray = NDArray[np.float64]

INITIAL_BIAS = 0.1  # standard deviation of b
WAVE_SELF = 0.25  # w, the weight of an agent's own block: above 0, or an even ring never carries odd distances
START_NOISE = 0.1  # noise around a given start, as a share of that of K
PURPOSES = {
    "Kp": Purpose.K_P,
    "Kq": Purpose.K_Q,
    "K": Purpose.K,
    "A": Purpose.K,
    "S": Purpose.K,
    "bp": Purpose.BIAS_P,
    "bq": Purpose.BIAS_Q,
    "b": Purpose.BIAS,
    "X": Purpose.X,
    "J": Purpose.X,
}


class Matrix(NamedTuple):
    """One worker's rows of a matrix: its operator, and the places of its entries in the whole.

    pattern: the blocks of the whole matrix that may be non-zero (of a skew one both halves). agents: the owned ones.
    columns: global numbers of the operator's column agents. sizes: neurons of every agent.
    """

    operator: BlockOperator
    pattern: BlockPattern
    agents: IntArray
    columns: IntArray
    sizes: IntArray

    def positions(self) -> tuple[IntArray, IntArray]:
        """Row and column neuron of every weight, (entries,) each, counted in the whole network."""
        starts, own = offsets(self.sizes), self.operator.pattern
        rows = ragged_ranges(starts[self.agents], self.sizes[self.agents])[own.scalar_rows()]
        return rows, own.expand(starts[self.columns][own.columns])

    def draw(
        self,
        seed: int,
        name: str,
        sets: Sequence[int],
        scale: float,
        dtype: torch.dtype,
        start: FloatArray | None = None,
    ) -> Tensor:
        """Random weights (sets, entries), of standard deviation scale / sqrt(row length).

        start: (entries,) mean of the weights, around which they then lie a tenth as wide.
        """
        own = self.operator.pattern
        per_agent = np.bincount(self.pattern.rows(), self.sizes[self.pattern.columns], self.pattern.agents)
        length = np.repeat(per_agent[self.agents], self.sizes[self.agents])[own.scalar_rows()]
        deviation = scale / np.sqrt(length)
        keys = block_keys(own, self.agents.astype(np.uint64), self.columns.astype(np.uint64))
        weights = torch.empty(len(sets), own.entries, dtype=dtype)
        for weight, j in zip(weights, sets, strict=True):  # one layer at a time, as float64 takes twice the memory
            values = normal(seed, PURPOSES[name], j, *keys)
            values *= deviation
            if start is not None:
                values *= START_NOISE
                values += start
            weight.copy_(torch.from_numpy(values))
        return weights

    def wave(self, seed: int, name: str, sets: Sequence[int], factor: float, dtype: torch.dtype) -> Tensor:
        """Return weights factor · Â ⊗ Q, (sets, entries): all agents alike, so that signals travel as waves.

        Â = (D + w)^(-1/2) (A + w) (D + w)^(-1/2) of the links A of the pattern and their degrees D, so that |Â|₂ = 1 on
        every graph; Q is a random orthogonal matrix of each set. Raises ValueError for agents of different widths, and
        for a pattern that is not symmetric.
        """
        pattern, size = self.pattern, int(self.sizes[0])
        rows, columns = pattern.rows(), pattern.columns
        if (self.sizes != size).any():
            raise ValueError("network.initial: expected agents of one width for wave, got several; choose random")
        if not np.array_equal(np.sort(rows * pattern.agents + columns), np.sort(columns * pattern.agents + rows)):
            raise ValueError(
                f"network.initial: expected a symmetric pattern of K for wave, got {pattern.kind}; choose random"
            )
        degree = np.bincount(rows[rows != columns], minlength=pattern.agents) + WAVE_SELF
        keys = block_keys(self.operator.pattern, self.agents.astype(np.uint64), self.columns.astype(np.uint64))
        row, column, element = (key.astype(np.int64) for key in keys)
        links = factor * np.where(row == column, WAVE_SELF, 1.0) / np.sqrt(degree[row] * degree[column])
        places = np.arange(size * size, dtype=np.uint64)
        weights = torch.empty(len(sets), len(links), dtype=dtype)
        for weight, j in zip(weights, sets, strict=True):
            purpose = np.full_like(places, PURPOSES[name])
            orthogonal, upper = np.linalg.qr(
                normal(seed, Purpose.WAVE, j, purpose, purpose, places).reshape(size, size)
            )
            orthogonal *= np.where(np.diag(upper) < 0, -1.0, 1.0)  # uniform over all orthogonal matrices
            weight.copy_(torch.from_numpy(links * orthogonal.ravel()[element]))
        return weights

    def identity(self) -> FloatArray:
        """Return the identity, (entries,)."""
        rows, columns = self.positions()
        ones: FloatArray = (rows == columns).astype(np.float64)
        return ones

    def canonical_skew(self) -> FloatArray:
        """Return J1 = [[0, -1], [1, 0]] within every agent, above the diagonal, (entries,)."""
        rows, columns = self.positions()
        agent = np.repeat(np.arange(len(self.sizes)), self.sizes)
        pairs = np.where((agent[rows] == agent[columns]) & (columns - rows == self.sizes[agent[rows]] // 2), -1.0, 0.0)
        return pairs.astype(np.float64)

    def given_skew(self, J: Any) -> FloatArray:
        """Return a skew matrix of the whole network above the diagonal, (entries,), see `arguments.skew_entries`."""
        keys, values = skew_entries(J, self.pattern, self.sizes)
        rows, columns = self.positions()
        wanted = rows * int(self.sizes.sum()) + columns
        place = np.searchsorted(keys, wanted)
        found = place < len(keys)
        found[found] = keys[place[found]] == wanted[found]
        result = np.zeros(len(wanted))
        result[found] = values[place[found]]
        return result


def skew_values(matrix: Matrix, J: Any) -> FloatArray:
    """Return the entries above the diagonal of J1, J2 (ones above, minus ones below) or a given J, (entries,)."""
    if not isinstance(J, str):
        return matrix.given_skew(J)
    if J == "J2":
        return np.ones(matrix.operator.entries)
    if (matrix.sizes % 2).any():
        raise ValueError("network.J: expected even widths for J1, which pairs the halves of an agent, got odd ones.")
    return matrix.canonical_skew()


def draw_bias(
    seed: int, name: str, sets: Sequence[int], agents: IntArray, sizes: IntArray, dtype: torch.dtype
) -> Tensor:
    """Draw biases (sets, neurons) of these agents. sizes: neurons of each of them."""
    neurons = ragged_ranges(np.zeros_like(sizes), sizes).astype(np.uint64)
    owners = np.repeat(agents, sizes).astype(np.uint64)
    biases = torch.empty(len(sets), len(neurons), dtype=dtype)
    for bias, j in zip(biases, sets, strict=True):
        bias.copy_(torch.from_numpy(INITIAL_BIAS * normal(seed, PURPOSES[name], j, owners, owners, neurons)))
    return biases
