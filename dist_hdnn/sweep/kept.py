"""Memory modes as numbers: which states a sweep keeps, and which layers it computes once more; see `memory`."""

from __future__ import annotations

import math
from typing import Literal, get_args

from dist_hdnn.dynamics.architectures import Architecture

Mode = Literal["store", "recompute", "reversible"]


def layers_between(mode: Mode, every: int | None, architecture: Architecture, layers: int, stages: int) -> int:
    """Layers from one kept state to the next: as asked for, of recompute by default about sqrt(layers); 0 for none.

    A segment of recompute starts with the first of the stages. Raises ValueError for an unknown mode, one that does not
    suit the architecture, or a number that it cannot use.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"network.memory: expected one of {', '.join(get_args(Mode))}, got '{mode}'. Choose one.")
    if mode == "reversible" and not architecture.invertible:
        raise ValueError(
            f"network.memory: expected store or recompute with the architecture {architecture.name}, whose layers have "
            "no exact inverse, got reversible. Choose recompute, or hamiltonian, for example."
        )
    if every is None:
        every = round(math.sqrt(layers)) if mode == "recompute" else 0
    elif mode == "store":
        raise ValueError(
            f"network.keep_every: expected nothing with memory=store, which keeps every state, got {every}. Leave it "
            "out, or choose memory=recompute or reversible."
        )
    elif isinstance(every, bool) or every < 1:
        raise ValueError(f"network.keep_every: expected a number of layers >= 1, got {every}. Use 16, for example.")
    if mode == "recompute":
        every = min(-(-every // stages) * stages, -(-layers // stages) * stages)
    return every


def check_keep_dtype(keep_dtype: object, dtype: object, mode: Mode, every: int) -> None:
    """Formats by name or as PyTorch's types; every: from `layers_between`.

    Raises ValueError for formats that do not go together, or where nothing is kept.
    """
    if keep_dtype is None or keep_dtype == dtype:
        return
    keep_dtype, dtype = (str(each).removeprefix("torch.") for each in (keep_dtype, dtype))
    if (keep_dtype, dtype) != ("bfloat16", "float32"):
        raise ValueError(
            f"network.keep_dtype: expected bfloat16 with dtype=float32, got {keep_dtype} with dtype={dtype}. Leave it "
            "out to keep states as they are computed, or compute in float32."
        )
    if mode == "reversible" and not every:
        raise ValueError(
            "network.keep_dtype: expected nothing with memory=reversible, which keeps no state but the last, got "
            f"{keep_dtype}. Leave it out, or set network.keep_every for anchors."
        )


def layers_again(mode: Mode, every: int, layers: int) -> range:
    """The layers whose updates are computed once more in the backward sweep; every: from `layers_between`."""
    return {"store": range(0), "recompute": range((layers - 1) // max(every, 1) * every), "reversible": range(layers)}[
        mode
    ]
