"""Choose the products of a block-sparse matrix: register tiles, or batched GEMMs."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.operators.ghosted import Exchange
from dist_hdnn.operators.impaired import ImpairedProducts
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.panels import CHUNK, PanelOperator
from dist_hdnn.operators.products import BlockProducts
from dist_hdnn.operators.sparsity import Arrangement, BlockOperator
from dist_hdnn.operators.tiles.machine import available
from dist_hdnn.operators.tiles.masked import MaskedTileProducts
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.products import TileProducts

PRODUCTS = ("auto", "torch", "tiles")
DTYPES = (torch.float32, torch.float64)  # that tiles are written for


def check_products(products: str, deterministic: bool) -> None:
    """Raise ValueError for unknown products, and for tiles where they are not available."""
    if products not in PRODUCTS:
        raise ValueError(f"products: expected one of {', '.join(PRODUCTS)}, got {products}. Choose auto.")
    if products == "tiles" and deterministic:
        raise ValueError("products: expected auto or torch with deterministic, got tiles. Switch deterministic off.")
    if products == "tiles" and not available():
        raise ValueError(
            "products: tiles need llvmlite, which is not installed. Install it where it has a wheel, or choose auto."
        )


def chosen_products(products: str, deterministic: bool, dtype: torch.dtype, device: torch.device) -> str:
    """Return what computes products: "tiles" or "torch"."""
    tiles = products != "torch" and not deterministic and device.type == "cpu" and dtype in DTYPES and available()
    return "tiles" if tiles else "torch"


def panels(operator: BlockOperator, device: torch.device | None = None) -> PanelOperator:
    """Return the panels of a matrix, made when they are first needed."""
    if operator.panels is None:
        agents = operator.column_agents
        order = None if agents is None else np.argsort(agents)
        device = device or torch.device("cpu")
        chunk = CHUNK if device.type == "cpu" else sys.maxsize  # on a GPU launches cost, not caches
        made = PanelOperator(
            operator.pattern,
            order=order,
            deterministic=operator.deterministic or operator.by_link,
            chunk=chunk,
            rows=operator.order,
        )
        operator.panels = made.to(device)
    return operator.panels  # type: ignore[no-any-return]


def tiles(operator: BlockOperator) -> TileOperator:
    """Return the tiles of a matrix, made when they are first needed."""
    if operator.tiles is None:
        operator.tiles = TileOperator(operator.pattern, joined=not operator.by_link, order=operator.order)
    return operator.tiles  # type: ignore[no-any-return]


def arrangement(operator: BlockOperator, like: Tensor) -> Arrangement:
    """Return how a matrix lies in memory for products of tensors of the type and device of `like`."""
    if chosen_products(operator.products, operator.deterministic, like.dtype, like.device) == "torch":
        return panels(operator, like.device)
    return tiles(operator)


def bind(operator: BlockOperator, exchange: Exchange, like: Tensor) -> BlockProducts:
    """Bind `operator` to an exchange and the memory of a batch like `like`."""
    chosen = arrangement(operator, like)
    if isinstance(chosen, TileOperator):
        return (TileProducts if exchange.wires is None else MaskedTileProducts)(chosen, exchange, like)
    assert isinstance(chosen, PanelOperator), "panels or tiles"
    if exchange.wires is not None:
        if like.device.type != "cpu":
            raise ValueError(f"device: expected cpu with impaired links, got {like.device}. Leave device out.")
        return ImpairedProducts(chosen, exchange, like)
    return PanelProducts(chosen, exchange, like)
