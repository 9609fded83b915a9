"""Checks of scores and targets, before a loss broadcasts them to something else.

Shared targets are of the sample: all agents that answer have the same. Own targets are of each answering agent; missing
ones are NaN, or the class `MISSING`, and count nowhere.
Shapes: scores (batch, ..., classes); shared targets (batch, classes), or (batch,) of integer classes; own targets
(batch, agents, targets), or (batch, agents) of integer classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dist_hdnn.data.checks import MISSING


def check_scores(scores: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless scores have this shape but for the batch, which comes first."""
    if tuple(scores.shape[1:]) != shape or scores.ndim != len(shape) + 1:
        raise ValueError(
            f"readout: expected scores of shape ({', '.join(map(str, ('batch', *shape)))}), got {tuple(scores.shape)}. "
            "Give what the readout returned for the last state."
        )


def checked_targets(targets: Tensor, scores: Tensor, regression: bool) -> Tensor:
    """Return targets of scores (batch, ..., classes), in the form that losses take.

    Real targets are (batch, targets), or (batch,) where there is one; classes are integers (batch,), or shares of all
    classes (batch, classes). Raises ValueError for others.
    """
    batch, classes = scores.shape[0], scores.shape[-1]
    if regression and classes == 1 and targets.ndim == 1:
        targets = targets[:, None]
    shares = regression or targets.is_floating_point()
    shape = (batch, classes) if shares else (batch,)
    if tuple(targets.shape) != shape or targets.is_complex():
        expected = f"real targets of shape ({batch}, {classes})"
        if not regression:
            expected = f"integer classes of shape ({batch},) or shares of shape ({batch}, {classes})"
        raise ValueError(
            f"readout: expected {expected} for these scores, got {targets.dtype} of shape {tuple(targets.shape)}. "
            "Give one row per sample of the batch."
        )
    if targets.device != scores.device:
        raise ValueError(
            f"readout: expected targets on {scores.device}, got {targets.device}. Move them with .to({scores.device})."
        )
    return targets if shares else targets.long()


def checked_own(targets: Tensor, scores: Tensor, agents: int, regression: bool) -> Tensor:
    """Return own targets of all answering agents, (batch, agents, targets) or (batch, agents) of integer classes.

    scores: of some of these agents, (batch, ., classes). Raises ValueError for targets of another shape or device.
    """
    batch, classes = len(scores), scores.shape[-1]
    if regression and classes == 1 and targets.ndim == 2:
        targets = targets[..., None]
    shape = (batch, agents, classes) if regression else (batch, agents)
    if tuple(targets.shape) != shape or targets.is_complex() or (targets.is_floating_point() and not regression):
        kind = "real targets" if regression else "integer classes"
        raise ValueError(
            f"readout: expected {kind} of shape {shape}, one for each agent that answers, got {targets.dtype} of shape "
            f"{tuple(targets.shape)}. Give missing ones as {'NaN' if regression else f'class {MISSING}'}."
        )
    if targets.device != scores.device:
        raise ValueError(
            f"readout: expected targets on {scores.device}, got {targets.device}. Move them with .to({scores.device})."
        )
    return targets if regression else targets.long()


def known(targets: Tensor) -> Tensor:
    """Tell which own targets are known, (batch, agents[, targets])."""
    return ~torch.isnan(targets) if targets.is_floating_point() else targets != MISSING


def losses(scores: Tensor, targets: Tensor, regression: bool, reduction: str) -> Tensor:
    """Return cross entropy or mean squared error of the samples (batch,), or their mean or sum."""
    if regression:
        each = (scores - targets).square().mean(dim=-1)
        return each.mean() if reduction == "mean" else each.sum() if reduction == "sum" else each
    return class_losses(scores, targets, reduction)


def class_losses(scores: Tensor, targets: Tensor, reduction: str, missing: int = -100) -> Tensor:
    """Return the cross entropy of classes, 0 for a missing one. Raises ValueError for a class that does not exist."""
    try:
        return cross_entropy(scores, targets, reduction=reduction, ignore_index=missing)
    except IndexError as error:
        raise ValueError(
            f"readout: expected classes from 0 to {scores.shape[-1] - 1}, got another: {error} Number them from 0."
        ) from None
