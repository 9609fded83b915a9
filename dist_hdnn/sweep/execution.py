"""Execution of a network: its products, the order of sums, and the memory of a training sweep.

    store        every version of the state                          grows with the layers
    recompute    the state every keep_every layers                   grows with the layers / keep_every
    reversible   the last state, and anchors every keep_every layers

Free of torch, because configs are checked with it before torch is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from dist_hdnn.dynamics.architectures import Architecture

Mode = Literal["store", "recompute", "reversible"]


class Kept(NamedTuple):
    """The states that a training sweep keeps: a memory mode, layers from one to the next (0: none), their format."""

    memory: Mode
    every: int
    dtype: str | None

    def again(self, layers: int) -> range:
        """Return the layers whose updates a backward sweep computes once more."""
        last_segment = (layers - 1) // max(self.every, 1) * self.every
        return {"store": range(0), "recompute": range(last_segment), "reversible": range(layers)}[self.memory]


@dataclass(frozen=True)
class Execution:
    """The choices of how a network is computed, none of which changes the network.

    products: "tiles" (kernels made by llvmlite; on the CPU, not with deterministic), "torch", or "auto": tiles where
        they are available.
    deterministic: the same bits whatever the number of workers, for more bytes and time. The libraries have to play
        along: set MKL_CBWR=AVX2,STRICT in the environment before PyTorch is loaded, and one thread per worker.
    memory: what a training sweep keeps for its backward: "store" every state, "recompute" the state every keep_every
        layers (about sqrt(layers) by default), "reversible" the last state and, with keep_every, anchors.
    keep_dtype: what kept states are rounded to, a torch.dtype or its name; with "store", the state before every layer
        is kept so, and each layer is computed once more. "bfloat16" halves the memory of a float32 network.
    cuda_graphs: on a GPU without other workers, record the sweeps of a training step and replay them; takes a copy of
        the weights and of their gradients. Not yet measured.
    replay: record the kernel calls of small sweeps on the CPU and replay them, see `sweep.program`.
    check_batches: workers with a link compare size, features (of a lift or `local`) and labels (of a readout) of every
        batch, 336 bytes a step each way; DisagreementError where they differ.
    """

    products: str = "auto"
    deterministic: bool = False
    memory: Mode = "store"
    keep_every: int | None = None
    keep_dtype: Any = None
    cuda_graphs: bool = False
    replay: bool = True
    check_batches: bool = True

    def kept(self, architecture: Architecture, layers: int, graphs: int, dtype: object) -> Kept:
        """Return what a training sweep keeps. A segment of recompute starts with the first of the graphs.

        dtype: of the network, a torch.dtype or its name. Raises ValueError for an unknown mode, one that does not suit
        the architecture, a number that it cannot use, or formats that do not go together.
        """
        mode, every = self.memory, self.keep_every
        if mode not in get_args(Mode):
            raise ValueError(f"network.memory: expected one of {', '.join(get_args(Mode))}, got '{mode}'. Choose one.")
        if mode == "reversible" and not architecture.invertible:
            raise ValueError(
                f"network.memory: expected store or recompute with the architecture {architecture.name}, whose layers "
                "have no exact inverse, got reversible. Choose recompute, or hamiltonian, for example."
            )
        if every is not None and mode == "store":
            raise ValueError(
                f"network.keep_every: expected nothing with memory=store, which keeps every state, got {every}. Leave "
                "it out, or choose memory=recompute or reversible."
            )
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"network.keep_every: expected a number of layers >= 1, got {every}. Use 16, for example.")
        kept_dtype = self._format(dtype, every)
        if mode == "store" and kept_dtype is not None:
            mode, every = "recompute", 1
        if mode == "recompute":
            every = every or round(math.sqrt(layers))
            every = min(-(-every // graphs) * graphs, -(-layers // graphs) * graphs)
        return Kept(mode, every or 0, kept_dtype)

    def _format(self, dtype: object, every: int | None) -> str | None:
        """Return the name of the format of kept states where it is another than the network's."""
        kept, own = (str(each).removeprefix("torch.") for each in (self.keep_dtype, dtype))
        if self.keep_dtype is None or kept == own:
            return None
        if (kept, own) != ("bfloat16", "float32"):
            raise ValueError(
                f"network.keep_dtype: expected bfloat16 with dtype=float32, got {kept} with dtype={own}. Leave it out "
                "to keep states as they are computed, or compute in float32."
            )
        if self.memory == "reversible" and not every:
            raise ValueError(
                "network.keep_dtype: expected nothing with memory=reversible, which keeps no state but the last, got "
                f"{kept}. Leave it out, or set network.keep_every for anchors."
            )
        return kept


DEFAULT = Execution()
