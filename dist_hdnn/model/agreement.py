"""Do all workers work on the same batch? Before a sweep, workers that share a link compare a few numbers.

    before the forward sweep     samples of the batch, fingerprint of its features, optimizer steps so far, and by what
                                 factor gradients were scaled before the last one
    before the backward sweep    fingerprint of its labels


40 bytes each way over every pair of workers with a link, beside some hundred rounds of slices; no collective. A number
that a worker does not know (0) is compared with nothing: features that went through no lift, labels through no readout.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from dist_hdnn.layers.opaque import opaque
from dist_hdnn.model.gradient_scale import GradientScale, apart, factor
from dist_hdnn.transport import Channel, DisagreementError, Ledger, Transport

FIELDS = ("samples", "features", "labels", "optimizer steps", "factor on gradients", "optimizer options")
MOST = 2**16  # numbers of a batch that its fingerprint looks at; of a larger one every k-th sample
REMEDY = {
    "samples": "give every worker the same batch",
    "features": "seed what shuffles, or take batches from batch_order; check_batches=False if they differ on purpose",
    "labels": "seed what shuffles, or take batches from batch_order; check_batches=False if they differ on purpose",
    "optimizer steps": "let all workers take or skip a step together; with scaled losses use dist_hdnn.GradScaler",
    "factor on gradients": "clip by dist_hdnn.clip_grad_norm_, whose norm is that of all workers",
    "optimizer options": "set rates by what all workers know, as steps, or a loss from readout.reported_loss",
}


class Agreement:
    """What this worker compares with `peers`, the workers that have agents linked to its own.

    steps: optimizer steps on parameters of this network, which `step` counts. `note` keeps the fingerprint of the
    latest features or labels until the next comparison.
    """

    def __init__(self, transport: Transport, ledger: Ledger, peers: Sequence[int]) -> None:
        self.transport, self.ledger, self.peers = transport, ledger, list(peers)
        self.steps = 0
        self._scale: GradientScale | None = None
        self._factor = 0
        self._noted = {"features": 0, "labels": 0, "optimizer options": 0}
        self._channel: Channel | None = None
        device = getattr(transport, "device", torch.device("cpu"))
        self._sent = torch.zeros(len(FIELDS), dtype=torch.int64, device=device)
        self._received = torch.zeros(len(self.peers), len(FIELDS), dtype=torch.int64, device=device)
        ranks = [transport.rank] * len(self.peers)
        self._plan = ledger.register(ranks, self.peers, [len(FIELDS)] * len(self.peers), agents=([], [], []))

    def watch(self, parameter: Tensor) -> None:
        """Look at the gradients of this parameter (sets, numbers)."""
        self._scale = GradientScale(parameter)

    def step(self, options: str) -> None:
        """An optimizer with these options is about to change parameters of this network."""
        self.steps += 1
        self._noted["optimizer options"] = (
            2 * zlib.crc32(options.encode(), self._noted["optimizer options"] % 2**32) + 1
        )
        found = None if self._scale is None else self._scale.taken()
        if found is not None:
            self._factor = found

    @opaque
    def note(self, what: str, values: Tensor) -> None:
        """Keep the fingerprint of a batch's "features" or "labels"."""
        self._noted[what] = fingerprint(values)

    def before_forward(self, samples: int) -> None:
        """Compare what a forward sweep needs to be the same. Raises DisagreementError on the workers that differ."""
        factor_before, self._factor = self._factor, 0
        options = self._taken("optimizer options")
        self._compare((samples + 1, self._taken("features"), 0, self.steps + 1, factor_before, options))

    def before_backward(self, _: Tensor) -> None:
        """Compare the labels of the loss whose backward begins; a hook of the network's output."""
        self._compare((0, 0, self._taken("labels"), 0, 0, 0))

    def _taken(self, what: str) -> int:
        value, self._noted[what] = self._noted[what], 0
        return value

    def _compare(self, values: tuple[int, ...]) -> None:
        if not self.peers:
            return
        self._sent.copy_(torch.tensor(values))
        if self._channel is None:
            receives = list(zip(self.peers, self._received.unbind(0), strict=True))
            self._channel = self.transport.channel([(p, self._sent) for p in self.peers], receives, "check of batches")
            weakref.finalize(self, self._channel.retire).atexit = False
        self._channel.start()
        self._channel.wait()
        self.ledger.book(self._plan, "check", self._sent.element_size())
        for peer, others in zip(self.peers, self._received.tolist(), strict=True):
            for what, own, other in zip(FIELDS, values, others, strict=True):
                same = own == other or (what == "factor on gradients" and not apart(own, other))
                if own and other and not same:
                    raise DisagreementError(_difference(self.transport.rank, peer, what, own, other))


def _difference(rank: int, peer: int, what: str, own: int, other: int) -> str:
    found = "different ones"
    if what in ("samples", "optimizer steps"):
        found = f"{own - 1} on one and {other - 1} on the other"
    elif what == "factor on gradients":
        found = f"{factor(own):.4g} on one and {factor(other):.4g} on the other"
    return f"workers disagree: expected the same {what} on workers {rank} and {peer}, got {found}; {REMEDY[what]}"


def fingerprint(values: Tensor) -> int:
    """A positive number that tells batches apart: shape, dtype and bits of all values, of many every k-th sample."""
    values = values.detach()
    if values.ndim and values.numel() > MOST:
        values = values[:: -(-values.numel() // MOST)]
    data = values.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().tobytes()
    return 2 * zlib.crc32(data, zlib.crc32(f"{tuple(values.shape)}, {values.dtype}".encode())) + 1
