"""Do all workers work on the same batch? Before a sweep, workers that share a link compare a few numbers.

    before the forward sweep     samples of the batch, fingerprints of its features, of the network and of what its
                                 weights began with; optimizer steps so far, and of the last ones the options and by
                                 what factor gradients were scaled; weights and gradients, which have to differ
    before the backward sweep    fingerprint of its labels

168 bytes each way over every pair of workers with a link, beside some hundred rounds of slices; no collective. A number
that a worker does not know (0) is compared with nothing: features that went through no lift, labels through no readout.

What multiplied a gradient between backward and step is seen on a few of its numbers: torch.nn.utils.clip_grad_norm_
multiplies each worker's part by a factor of its own, which nothing else shows.
"""

from __future__ import annotations

import math
import warnings
import weakref
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dist_hdnn.sweep.surroundings import opaque
from dist_hdnn.transport import Channel, DisagreementError, Ledger, Transport

SLOTS = 12  # parameters of the modules whose gradients are looked at
OWN = ("weights", "gradients")  # of agents, which have one owner each
FIELDS = (
    *("samples", "features", "labels", "optimizer steps", "network", "initial weights", *OWN, "optimizer options"),
    *("factor on gradients",) * SLOTS,
)
MOST = 2**16  # numbers of a batch that its fingerprint looks at; of a larger one every k-th sample
REMEDY = {
    "samples": "give every worker the same batch",
    "features": "seed shuffling or use batch_order; Execution(check_batches=False) turns this off",
    "labels": "seed shuffling or use batch_order; Execution(check_batches=False) turns this off",
    "network": "give all the same graph (seed what draws it), widths, options and partition",
    "initial weights": "give all the same seeds, or load_state_dict the same file",
    "weights": "broadcast and average nothing, and draw what you draw by load_state_dict of a whole state",
    "gradients": "sum, average and send no gradient: every weight has one owner, and its whole gradient there",
    "optimizer steps": "let all workers take or skip a step together; with scaled losses use dist_hdnn.GradScaler",
    "factor on gradients": "clip by dist_hdnn.clip_grad_norm_, whose norm is that of all workers",
    "optimizer options": "set rates by what all workers know, as steps, or a loss from readout.reported_loss",
}


class Agreement:
    """Comparisons of this worker with `peers`, the workers that have agents linked to its own.

    steps: optimizer steps on parameters of this network, which `step` counts. `note` keeps the fingerprint of the
    latest features or labels until the next comparison. network: fingerprint of graphs and options. weights: what those
    of a class of modules began with, a seed or fingerprints.
    """

    def __init__(self, transport: Transport, ledger: Ledger, peers: Sequence[int]) -> None:
        self.transport, self.ledger, self.peers = transport, ledger, list(peers)
        self.steps = self.network = 0
        self.weights: dict[str, object] = {}
        self._watched: dict[str, list[GradientScale]] = {}
        self._factors, self._own = [0] * SLOTS, (0, 0)
        self._noted = {"features": 0, "labels": 0, "optimizer options": 0}
        self._channel: Channel | None = None
        device = getattr(transport, "device", torch.device("cpu"))
        self._sent = torch.zeros(len(FIELDS), dtype=torch.int64, device=device)
        self._received = torch.zeros(len(self.peers), len(FIELDS), dtype=torch.int64, device=device)
        ranks = [transport.rank] * len(self.peers)
        self._plan = ledger.register(ranks, self.peers, [len(FIELDS)] * len(self.peers), agents=([], [], []))

    def watch(self, name: str, parameter: Tensor) -> None:
        """Watch the gradients of a parameter, which may be another whenever its module runs. name: of its class."""
        known = self._watched.setdefault(name, [])
        trained = isinstance(parameter, nn.Parameter) and parameter.requires_grad
        if trained and not any(scale.watches(parameter) for scale in known):
            known.append(GradientScale(parameter))

    def step(self, parameters: Sequence[Tensor], options: str) -> None:
        """Compare before an optimizer with these options changes parameters, some of them of this network."""
        self.steps += 1
        self._noted["optimizer options"] = mark(options, self._noted["optimizer options"])
        ids = {id(parameter) for parameter in parameters}
        for slot, (name, scales) in enumerate(list(self._watched.items())[:SLOTS]):
            stepped = [scale for scale in scales if scale.id in ids]
            found = next((f for f in [scale.taken() for scale in stepped] if f is not None), None)
            if found is not None:
                self._factors[slot] = found
            if name.startswith("HDNN"):
                self._own = next((m for m in [scale.marks() for scale in stepped] if all(m)), self._own)

    @opaque
    def note(self, what: str, values: Tensor) -> None:
        """Keep the fingerprint of a batch's "features" or "labels"."""
        self._noted[what] = fingerprint(values)

    def before_forward(self, samples: int) -> None:
        """Compare what a forward sweep needs to be the same. Raises DisagreementError on the workers that differ."""
        weights, options = mark(repr(sorted(self.weights.items()))), self._taken("optimizer options")
        batch = (samples + 1, self._taken("features"), 0)
        self._compare((*batch, self.steps + 1, self.network, weights, *self._own, options, *self._factors))
        self._factors, self._own = [0] * SLOTS, (0, 0)

    def before_backward(self, _: Tensor) -> None:
        """Compare the labels of the loss whose backward begins, as a hook of the network's output."""
        self._compare((0, 0, self._taken("labels"), *[0] * (len(FIELDS) - 3)))

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
                same = not apart(own, other) if what.startswith("factor") else (own == other) != (what in OWN)
                if own and other and not same:
                    difference = _difference(self.transport.rank, peer, what, own, other)
                    if what != "weights" or self.steps > 1:
                        raise DisagreementError(difference)
                    warnings.warn(difference, UserWarning, stacklevel=4)  # agents may begin alike on purpose


def _difference(rank: int, peer: int, what: str, own: int, other: int) -> str:
    found = "different ones"
    if what in OWN:
        others = f"workers disagree: expected {what} of each one's own agents on workers {rank} and {peer}"
        return f"{others}, got the same on both; {REMEDY[what]}"
    if what in ("samples", "optimizer steps"):
        found = f"{own - 1} on one and {other - 1} on the other"
    elif what == "factor on gradients":
        found = f"{factor(own):.4g} on one and {factor(other):.4g} on the other"
    return f"workers disagree: expected the same {what} on workers {rank} and {peer}, got {found}; {REMEDY[what]}"


def mark(text: str, before: int = 0) -> int:
    """Return a positive number that tells texts apart, with those marked before it."""
    return 2 * zlib.crc32(text.encode(), before % 2**32) + 1


def fingerprint(values: Tensor) -> int:
    """Return a positive number that tells batches apart: shape, dtype, bits of all values or of every k-th sample."""
    values = values.detach()
    if values.ndim and values.numel() > MOST:
        values = values[:: -(-values.numel() // MOST)]
    data = values.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().tobytes()
    return 2 * zlib.crc32(data, zlib.crc32(f"{tuple(values.shape)}, {values.dtype}".encode())) + 1


WITNESSES = 8  # numbers of a parameter or its gradient that are looked at
STEP = 1e-6  # in the logarithm of a factor; so a difference of `APART` steps is a fifth of a percent
APART, ONE = 2000, 2**40


class GradientScale:
    """Watches the gradient of one parameter, of this id."""

    def __init__(self, parameter: Tensor) -> None:
        self._parameter, self.id = weakref.ref(parameter), id(parameter)
        self._before: Tensor | None = None
        parameter.register_post_accumulate_grad_hook(self._accumulated)

    def taken(self) -> int | None:
        """Return the factor of a step on a logarithmic scale, 0 if there are several, None without a gradient."""
        parameter, before, self._before = self._parameter(), self._before, None
        if parameter is None or parameter.grad is None or before is None:
            return None
        factors = _few(parameter.grad).double()[before != 0] / before[before != 0].double()
        if len(factors) < 2 or not factors.isfinite().all() or factors.min() <= 0:
            return 0
        if float(factors.max() / factors.min()) > 1 + 100 * STEP:
            return 0
        return ONE + round(math.log(float(factors[0])) / STEP)

    def marks(self) -> tuple[int, int]:
        """Return numbers of weights and gradients that two workers share only if one has the other's, or 0."""
        parameter = self._parameter()
        if parameter is None or parameter.grad is None or not _is_known(parameter.grad):
            return 0, 0
        return _mark(parameter), _mark(parameter.grad)

    def watches(self, parameter: Tensor) -> bool:
        """Tell whether this is the parameter."""
        return self._parameter() is parameter

    def _accumulated(self, parameter: Tensor) -> None:
        if parameter.grad is not None and _is_known(parameter.grad):
            self._before = _few(parameter.grad).clone()


def _is_known(values: Tensor) -> bool:
    return values.dtype in (torch.float32, torch.float64) and values.numel() > 0


def _few(values: Tensor) -> Tensor:
    return values.detach()[(0,) * (values.ndim - 1)][:WITNESSES]


def _mark(values: Tensor) -> int:
    """Return 0 for numbers that chance or a limit may have made alike, such as zeros and ones."""
    few = _few(values).cpu()
    return 2 * zlib.crc32(few.numpy().tobytes()) + 1 if len(few.abs().unique()) >= 3 else 0


def apart(one: int, other: int) -> bool:
    """Tell whether two factors as `taken` differ by more than rounding."""
    return abs(one - other) > APART


def factor(taken: int) -> float:
    """Return the factor of a logarithm."""
    return math.exp((taken - ONE) * STEP)
