"""Halos: the owned agents of one worker, its ghosts, and the slices that other workers need from it.

Row k of a block pattern needs the slice of every column i. Lists follow this direction: a receiver need not send.
Agents have global numbers here; local numbers count the owned agents, then the ghosts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dist_hdnn.topology.partition import Partition, agent_neurons
from dist_hdnn.topology.patterns import BlockPattern
from dist_hdnn.topology.ragged import IntArray, offsets

PeerLists = tuple[tuple[int, IntArray], ...]

SEND, RECEIVE = 0, 1


@dataclass(frozen=True, eq=False)
class Halo:
    """One worker's view of a pattern and a partition, made by `build_halo`. Numbers are global except in `columns`.

    owned: agents, ascending. ghosts: agents sorted by (owner, agent). receive: (peer, agents) with peers and agents
    ascending: the run of `ghosts` that this peer owns. send: (peer, agents), both ascending: owned agents that are
    ghosts of this peer.
    row_start (owned + 1,), columns (entries,): the pattern's owned rows in compressed form. A column is a local number:
    position in owned, or len(owned) + position in ghosts. Columns of a row follow their global numbers, ascending.
    """

    worker: int
    workers: int
    owned: IntArray
    ghosts: IntArray
    receive: PeerLists
    send: PeerLists
    row_start: IntArray
    columns: IntArray

    @property
    def agents(self) -> IntArray:
        """The global number of every local one: (owned + ghosts,)."""
        return np.concatenate([self.owned, self.ghosts])


def build_halo(pattern: BlockPattern, partition: Partition, worker: int) -> Halo:
    """Return the halo of a worker. Receive lists come from its own rows, send lists from all, so they can be compared.

    Raises ValueError when the pattern is for another number of agents or there is no such worker.
    """
    pattern.check_agents(partition.agents)
    owned = partition.owned(worker)
    mine = partition.owners == worker
    columns = pattern.columns[np.repeat(mine, np.diff(pattern.row_start))]  # of owned rows, global numbers
    needed = np.zeros(partition.agents, dtype=np.bool_)
    needed[columns] = True
    foreign = np.flatnonzero(needed & ~mine)
    ghosts = foreign[np.argsort(partition.owners[foreign], kind="stable")]  # by (owner, agent)
    local = np.empty(partition.agents, dtype=np.int64)  # global number -> local number
    local[owned] = np.arange(len(owned))
    local[ghosts] = len(owned) + np.arange(len(ghosts))
    needing, agents = partition.crossings(pattern)
    return Halo(
        worker=int(worker),
        workers=partition.workers,
        owned=owned,
        ghosts=ghosts,
        receive=_by_peer(partition.owners[ghosts], ghosts),
        send=_by_peer(needing[mine[agents]], agents[mine[agents]]),
        row_start=offsets(np.diff(pattern.row_start)[owned]),
        columns=local[columns],
    )


def plan_digest(patterns: Sequence[BlockPattern], partition: Partition, half_widths: ArrayLike) -> bytes:
    """Return 32 bytes (SHA-256), equal on all workers exactly when they agree on who needs, owns and sends what."""
    arrays = [partition.owners, agent_neurons(half_widths, partition.agents)]
    for pattern in patterns:
        arrays += [pattern.row_start, pattern.columns]
    digest = hashlib.sha256(np.array([partition.workers, *map(len, arrays)], dtype="<i8").tobytes())
    for array in arrays:
        digest.update(array.astype("<i8").tobytes())
    return digest.digest()


def message_digests(halo: Halo, half_widths: ArrayLike) -> NDArray[np.uint64]:
    """Return (workers, 2) digests of the messages to and from each worker in a gather, 0 where there is none.

    A digest covers both ends, the agents in order and their neurons. Stacked over the workers, `disagreement` reads it.
    half_widths: (agents,) neurons of every agent's slice.
    """
    halves = np.asarray(half_widths)
    table = np.zeros((halo.workers, 2), dtype=np.uint64)
    for kind, messages in ((SEND, halo.send), (RECEIVE, halo.receive)):
        for peer, agents in messages:
            ends = (halo.worker, peer) if kind == SEND else (peer, halo.worker)  # sender, receiver: alike at both
            text = np.concatenate([ends, agents, halves[agents]]).astype("<i8").tobytes()
            table[peer, kind] = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return table


def disagreement(tables: NDArray[np.uint64]) -> tuple[int, int] | None:
    """Return the first (sender, receiver) whose lists differ, or None. tables: (workers, workers, 2), a row each."""
    differ = np.argwhere(tables[:, :, SEND] != tables[:, :, RECEIVE].T)
    return (int(differ[0, 0]), int(differ[0, 1])) if len(differ) else None


def _by_peer(peers: IntArray, agents: IntArray) -> PeerLists:
    """Return (peer, its agents) from two equally long arrays sorted by peer."""
    numbers, starts = np.unique(peers, return_index=True)
    return tuple(zip(numbers.tolist(), np.split(agents, starts[1:]), strict=True)) if len(numbers) else ()
