"""Checks of scores and targets, before a loss broadcasts them to something else.

Shapes: scores (batch, ..., classes); targets (batch, classes), or (batch,) of integer classes.
"""

from __future__ import annotations

from torch import Tensor


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
