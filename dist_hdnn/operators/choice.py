"""Which products compute a block-sparse matrix: register tiles, batched GEMMs, or these overlapped with messages."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.operators.exchange import Exchange
from dist_hdnn.operators.overlap import OverlappedProducts
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.panels import CHUNK, PanelOperator
from dist_hdnn.operators.products import BlockProducts
from dist_hdnn.operators.sparsity import Arrangement, BlockOperator
from dist_hdnn.operators.tiles.machine import available
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.products import TileProducts

PLANS = ("auto", "torch", "tiles")
DTYPES = (torch.float32, torch.float64)  # that tiles are written for


def check_plan(plan: str, ordered: bool) -> None:
    """Raise ValueError for an unknown plan, and for tiles where they cannot be had."""
    if plan not in PLANS:
        raise ValueError(f"plan: expected one of {', '.join(PLANS)}, got {plan}. Choose auto.")
    if plan == "tiles" and ordered:
        raise ValueError("plan: expected auto or torch with deterministic, got tiles. Switch deterministic off.")
    if plan == "tiles" and not available():
        raise ValueError(
            "plan: tiles need llvmlite, which is not installed. Install llvmlite where it has a wheel, or choose auto."
        )


def chosen_plan(plan: str, ordered: bool, dtype: torch.dtype, device: torch.device) -> str:
    """What computes products: "tiles" or "torch"."""
    tiles = plan != "torch" and not ordered and device.type == "cpu" and dtype in DTYPES and available()
    return "tiles" if tiles else "torch"


def panels(operator: BlockOperator, device: torch.device | None = None) -> PanelOperator:
    """The panels of a matrix, made when they are first needed."""
    if operator.panels is None:
        agents = operator.column_agents
        order = None if agents is None else np.argsort(agents)
        device = device or torch.device("cpu")
        chunk = CHUNK if device.type == "cpu" else sys.maxsize  # on a GPU launches cost, not caches
        made = PanelOperator(
            operator.pattern, order=order, ordered=operator.ordered, overlap=operator.overlap, chunk=chunk
        )
        operator.panels = made.to(device)
    return operator.panels  # type: ignore[no-any-return]


def tiles(operator: BlockOperator) -> TileOperator:
    """The tiles of a matrix, made when they are first needed."""
    if operator.tiles is None:
        operator.tiles = TileOperator(operator.pattern)
    return operator.tiles  # type: ignore[no-any-return]


def arrangement(operator: BlockOperator, like: Tensor) -> Arrangement:
    """How a matrix lies in memory for products of tensors of the type and device of `like`."""
    if chosen_plan(operator.plan, operator.ordered, like.dtype, like.device) == "torch":
        return panels(operator, like.device)
    return tiles(operator)


def bind(operator: BlockOperator, exchange: Exchange, like: Tensor) -> BlockProducts:
    """The products of `operator` with the memory of a batch like `like`."""
    chosen = arrangement(operator, like)
    if isinstance(chosen, TileOperator):
        return TileProducts(chosen, exchange, like)
    assert isinstance(chosen, PanelOperator), "panels or tiles"
    parts = 0 < chosen.interior < len(chosen.shapes) and not chosen.columns_in_order
    return (OverlappedProducts if parts else PanelProducts)(chosen, exchange, like)
