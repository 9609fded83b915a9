"""What of PyTorch works on a network: each row of the table in docs/own_loop.md, on one worker and on two.

"yes": the weights afterwards are those of one worker, and on one worker, where a row says so, those of plain training.
"""

from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_loops import CLASSES, Loop, difference, run
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import dist_hdnn
from dist_hdnn.ends.lift import LinearLift

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_loop.md"
STEPS, RATE = 3, 0.2


@dataclass(frozen=True)
class Row:
    """name: first column of the table. one, several: the others, that begin with yes, refused or warned."""

    name: str
    one: str
    several: str
    habit: Callable[[Loop], dict[str, Tensor]]
    match: str
    plain: bool
    tolerance: float
    readout: str
    options: dict[str, Any]


ROWS: dict[str, Row] = {}


def row(
    name: str,
    one: str = "yes",
    several: str = "yes",
    match: str = "",
    plain: bool = False,
    tolerance: float = 1e-12,
    readout: str = "local",
    **options: Any,
) -> Callable[[Callable[[Loop], dict[str, Tensor]]], Callable[[Loop], dict[str, Tensor]]]:
    """Put a habit into the table; plain: it trains as `plainly` does. tolerance: of differences between workers."""

    def add(habit: Callable[[Loop], dict[str, Tensor]]) -> Callable[[Loop], dict[str, Tensor]]:
        ROWS[name] = Row(name, one, several, habit, match, plain, tolerance, readout, options)
        return habit

    return add


def sgd(loop: Loop) -> torch.optim.Optimizer:
    return torch.optim.SGD(loop.parameters, lr=RATE)


def plainly(loop: Loop) -> dict[str, Tensor]:
    """Three plain steps."""
    loop.train(sgd(loop), STEPS)
    return loop.weights()


def scored(loop: Loop, state: Tensor) -> Tensor:
    """The loss of a last state."""
    return loop.readout.loss(loop.readout(state), loop.labels).sum()


def trained_by(loop: Loop, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Three plain steps on a loss that is computed in another way."""
    optimizer = sgd(loop)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return loop.weights()


def state_of(loop: Loop) -> Tensor:
    return loop.net.local(loop.states)


def gathered(loop: Loop, state: Tensor) -> dict[str, Tensor]:
    """A state's columns of all agents."""
    whole = state.new_zeros(len(state), 24)
    index = loop.net.ownership.shard_of_agents(loop.net.ownership.all_widths, dimension=1).index
    whole[:, torch.from_numpy(index)] = state.detach()
    if loop.workers is not None:
        loop.workers.all_reduce(whole)
    return {"state": whole}


def first(loop: Loop) -> bool:
    """Whether this is the worker that tries what PyTorch does for one thread at a time."""
    return loop.workers is None or loop.workers.rank == 0


# -- optimizers ------------------------------------------------------------------------------------------------------


row("`SGD`, `zero_grad()`, `backward()`, `step()`", plain=True)(plainly)


@row("`Adam` and `AdamW`, also `foreach=True` and `fused=True`")
def adam(loop: Loop) -> dict[str, Tensor]:
    for options in ({}, {"foreach": True}, {"fused": True}):
        loop.train(torch.optim.Adam(loop.parameters, lr=0.01, **options), 1)
        loop.train(torch.optim.AdamW(loop.parameters, lr=0.01, **options), 1)
    return loop.weights()


@row("`RMSprop`, `Adagrad`, `Adadelta`, `Adamax`, `NAdam`, `RAdam`, `ASGD`, `Rprop`")
def elementwise(loop: Loop) -> dict[str, Tensor]:
    for name in ("RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop"):
        loop.train(getattr(torch.optim, name)(loop.parameters, lr=0.01), 1)
    return loop.weights()


@row("groups of parameters with their own rate and weight decay")
def groups(loop: Loop) -> dict[str, Tensor]:
    decaying = loop.net.matrices()
    kept = {id(p) for p in decaying}
    others = [p for p in loop.parameters if id(p) not in kept]
    loop.train(torch.optim.AdamW([{"params": decaying, "weight_decay": 0.1}, {"params": others, "lr": 0.05}]))
    return loop.weights()


@row("`LBFGS`", several="refused", match="got LBFGS, which looks across a parameter")
def lbfgs(loop: Loop) -> dict[str, Tensor]:
    def closure() -> Tensor:
        loop.backward()
        return loop.loss().detach()

    loop.backward()
    torch.optim.LBFGS(loop.parameters, max_iter=2).step(closure)  # type: ignore[arg-type]
    return loop.weights()


@row("`Adafactor`", several="refused", match="got Adafactor, which looks across a parameter")
def adafactor(loop: Loop) -> dict[str, Tensor]:
    loop.train(torch.optim.Adafactor(loop.parameters, lr=0.01))
    return loop.weights()


@row("`Muon`", several="refused", match="got Muon, which looks across a parameter")
def muon(loop: Loop) -> dict[str, Tensor]:
    loop.train(torch.optim.Muon([p for p in loop.net.parameters() if p.ndim == 2], lr=0.01))
    return loop.weights()


@row("an optimizer of your own", several="warned: right if elementwise", match="Signs is not known. On several")
def own_optimizer(loop: Loop) -> dict[str, Tensor]:
    class Signs(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for parameter in self.param_groups[0]["params"]:
                if parameter.grad is not None:
                    parameter.sub_(0.01 * parameter.grad.sign())

    loop.train(Signs(loop.parameters, {}))
    return loop.weights()


@row("`lr_scheduler`s that count steps")
def scheduler(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for _ in range(STEPS):
        loop.train(optimizer, 1)
        cosine.step()
    return loop.weights()


@row("`ReduceLROnPlateau` of `readout.reported_loss(loss)`", tolerance=1e-11)
def plateau(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)
    for _ in range(STEPS):
        loop.train(optimizer, 1)
        with torch.no_grad():
            scores = loop.readout(loop.net(state_of(loop)))
            schedule.step(loop.readout.reported_loss(loop.readout.loss(scores, loop.labels)))
    assert optimizer.param_groups[0]["lr"] < RATE
    return loop.weights()


OWN_RATE = "expected the same optimizer options on workers . and .*reported_loss"


@row("`ReduceLROnPlateau` of a worker's own loss", several="refused: use the row above", match=OWN_RATE)
def plateau_of_own(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.0)
    for step in range(4):
        loop.train(optimizer, 1)
        schedule.step(1.0 + step * (1 if first(loop) else -1))  # falls on one worker, not on the other
    return loop.weights()


@row(
    "`torch.nn.utils.clip_grad_norm_`", several="refused: use the next row", match="factor .*dist_hdnn.clip_grad_norm_"
)
def clip_by_torch(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    for _ in range(2):
        loop.backward()
        torch.nn.utils.clip_grad_norm_(loop.parameters, 0.01)
        optimizer.step()
    return loop.weights()


@row("`dist_hdnn.clip_grad_norm_`")
def clip(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    for _ in range(2):
        loop.backward()
        dist_hdnn.clip_grad_norm_(loop.parameters, 0.01)
        optimizer.step()
    return loop.weights()


@row("`clip_grad_value_`")
def clip_value(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    for _ in range(2):
        loop.backward()
        torch.nn.utils.clip_grad_value_(loop.parameters, 0.001)
        optimizer.step()
    return loop.weights()


@row("`dist_hdnn.optimizer_state_dict`, `load_optimizer_state_dict`")
def helper_state(loop: Loop) -> dict[str, Tensor]:
    first, second = (torch.optim.Adam(loop.parameters, lr=0.01) for _ in range(2))
    loop.train(first, 1)
    dist_hdnn.load_optimizer_state_dict(second, dist_hdnn.optimizer_state_dict(first, loop.modules), loop.modules)
    loop.train(second, 2)
    return loop.weights()


@row("`optimizer.state_dict()`", several="yes: this worker's part, for as many workers with the same agents")
def torch_state(loop: Loop) -> dict[str, Tensor]:
    first, second = (torch.optim.Adam(loop.parameters, lr=0.01) for _ in range(2))
    loop.train(first, 1)
    second.load_state_dict(first.state_dict())
    loop.train(second, 2)
    return loop.weights()


@row("`swa_utils.AveragedModel` (SWA, EMA)")
def averaged(loop: Loop) -> dict[str, Tensor]:
    mean, optimizer = AveragedModel(loop.net), sgd(loop)
    for _ in range(STEPS):
        loop.train(optimizer, 1)
        mean.update_parameters(loop.net)
    return gathered(loop, mean(state_of(loop)))


@row("`AveragedModel(use_buffers=True)` with an EMA", tolerance=1e-11)
def averaged_buffers(loop: Loop) -> dict[str, Tensor]:
    """Index tensors are no buffers: 0.9 i + 0.1 i is less than i for some, and another number as an integer."""
    both, optimizer = nn.ModuleDict(loop.modules), sgd(loop)
    mean = AveragedModel(both, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(4):
        mean.update_parameters(both)
    assert not [name for name, buffer in both.named_buffers() if not buffer.is_floating_point()]
    state = mean.module["net"](state_of(loop))
    assert torch.equal(mean.module["readout"](state), loop.readout(loop.net(state_of(loop))))
    loop.train(optimizer, 1)
    mean.update_parameters(both)
    return gathered(loop, mean.module["net"](state_of(loop)))


# -- gradients -------------------------------------------------------------------------------------------------------


@row("gradients added up over several `backward`s")
def accumulated(loop: Loop) -> dict[str, Tensor]:
    for half in (slice(0, 5), slice(5, 10)):
        scores = loop.readout(loop.net(loop.net.local(loop.states[half])))
        loop.readout.loss(scores, loop.labels[half]).sum().backward()
    sgd(loop).step()
    return loop.weights()


@row("`backward(retain_graph=True)`, twice", tolerance=1e-11)
def retained(loop: Loop) -> dict[str, Tensor]:
    loss = loop.loss()
    loss.backward(retain_graph=True)
    loss.backward()
    sgd(loop).step()
    return loop.weights()


@row("`torch.autograd.grad`", plain=True)
def autograd_grad(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    for _ in range(STEPS):
        parameters = [p for p in loop.parameters if p.numel()]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loop.loss(), parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return loop.weights()


BATCHED = "got several in one backward .*vectorize=True"


@row("`jacobian(vectorize=True)`, `grad(is_grads_batched=True)`", "refused", "refused: leave it out", match=BATCHED)
def batched_gradients(loop: Loop) -> dict[str, Tensor]:
    torch.autograd.functional.jacobian(loop.net, state_of(loop)[:1], vectorize=True)
    return {}


TWICE = "once_differentiable"


@row("second derivatives, `create_graph=True`", "refused", "refused: `net.linearize` has Jacobians", match=TWICE)
def twice(loop: Loop) -> dict[str, Tensor]:
    (gradient,) = torch.autograd.grad(loop.loss(), loop.net.bp, create_graph=True)
    gradient.square().sum().backward()
    return loop.weights()


@row("`torch.no_grad()`, `torch.inference_mode()`, `eval()`")
def without_gradients(loop: Loop) -> dict[str, Tensor]:
    with torch.no_grad():
        first = gathered(loop, loop.net.eval()(state_of(loop)))
    with torch.inference_mode():
        second = gathered(loop, loop.net(state_of(loop)))
    return {"first": first["state"], "second": second["state"].clone()}


@row("`requires_grad_(False)` on some parameters")
def frozen(loop: Loop) -> dict[str, Tensor]:
    loop.net.bq.requires_grad_(False)
    before = loop.net.bq.clone()
    loop.train(torch.optim.SGD([p for p in loop.parameters if p.requires_grad], lr=RATE))
    assert torch.equal(loop.net.bq, before)
    return loop.weights()


@row("`torch.utils.checkpoint` around the network", plain=True)
def checkpointed(loop: Loop) -> dict[str, Tensor]:
    return trained_by(loop, lambda: scored(loop, checkpoint(loop.net, state_of(loop), use_reentrant=False)))


@row("`torch.autograd.set_detect_anomaly`", plain=True)
def anomaly(loop: Loop) -> dict[str, Tensor]:
    with torch.autograd.set_detect_anomaly(True) if first(loop) else nullcontext():  # of the whole process
        return plainly(loop)


@row("`tensor.register_hook`, `register_post_accumulate_grad_hook`", plain=True)
def tensor_hooks(loop: Loop) -> dict[str, Tensor]:
    def step(parameter: Tensor) -> None:
        with torch.no_grad():
            parameter -= RATE * parameter.grad
        parameter.grad = None

    for parameter in loop.parameters:
        parameter.register_hook(lambda gradient: gradient)
        parameter.register_post_accumulate_grad_hook(step)
    for _ in range(STEPS):
        loop.loss().backward()
    return loop.weights()


@row("`register_forward_hook`, `register_full_backward_hook`", plain=True)
def module_hooks(loop: Loop) -> dict[str, Tensor]:
    seen = list[str]()
    loop.net.register_forward_hook(lambda module, given, output: seen.append("forward"))
    loop.net.register_full_backward_hook(lambda module, given, output: seen.append("backward"))
    trained_by(loop, lambda: scored(loop, loop.net(state_of(loop).requires_grad_())))
    assert seen == ["forward", "backward"] * STEPS
    return loop.weights()


# -- modules ---------------------------------------------------------------------------------------------------------


@row("`state_dict`, `load_state_dict`, also `assign=True`", several="yes: of the whole network; all workers call it")
def states(loop: Loop) -> dict[str, Tensor]:
    state = {name: value + 0.1 for name, value in loop.net.state_dict().items()}
    loop.net.load_state_dict(state)
    loop.net.load_state_dict({name: value + 0.1 for name, value in loop.net.state_dict().items()}, assign=True)
    return plainly(loop)


@row("`nn.ModuleDict`, `nn.ModuleList` of networks and readouts", plain=True)
def module_dict(loop: Loop) -> dict[str, Tensor]:
    both = nn.ModuleDict(loop.modules)
    optimizer = torch.optim.SGD(both.parameters(), lr=RATE)
    loop.train(optimizer, STEPS)
    return dict(both.state_dict())


@row("`nn.Sequential(lift, net, readout)`", tolerance=1e-11)
def sequential(loop: Loop) -> dict[str, Tensor]:
    lift = LinearLift(loop.net.ownership, 24, np.arange(0, 25, 4), np.arange(24)).double()
    model = nn.Sequential(lift, loop.net, loop.readout)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loop.readout.loss(model(loop.states), loop.labels).sum().backward()
        optimizer.step()
    return dict(model.state_dict())


@row("`nn.Sequential(net, nn.ReLU(inplace=True))`, `net(y).mul_(2)`")
def in_place(loop: Loop) -> dict[str, Tensor]:
    rectified = nn.ReLU(inplace=True)
    return trained_by(loop, lambda: scored(loop, rectified(loop.net(state_of(loop)).mul_(2.0))))


@row("`net.forward(y)`, which calls no hooks")
def forward_itself(loop: Loop) -> dict[str, Tensor]:
    optimizer = sgd(loop)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loop.readout.loss(loop.readout.forward(loop.net.forward(state_of(loop))), loop.labels).sum().backward()
        dist_hdnn.clip_grad_norm_(loop.parameters, 0.01)
        optimizer.step()
    return loop.weights()


NOBODY = "belong to no part of a network on several workers"


@row("`nn.Sequential(net, nn.Linear(...))`", several="warned: each worker trains a layer of its own", match=NOBODY)
def linear_after(loop: Loop) -> dict[str, Tensor]:
    head = nn.Linear(loop.net.neurons, CLASSES).double()
    with torch.no_grad():
        head.weight.zero_()
    optimizer = torch.optim.SGD([*loop.net.parameters(), *head.parameters()], lr=RATE)
    scores = nn.Sequential(loop.net, head)(state_of(loop))
    torch.nn.functional.cross_entropy(scores, loop.labels).backward()
    optimizer.step()
    return loop.weights()


@row("`copy.deepcopy(net)`")
def copied(loop: Loop) -> dict[str, Tensor]:
    return plainly(loop._replace(net=copy.deepcopy(loop.net), readout=copy.deepcopy(loop.readout)))


@row("`pickle`, `torch.save(net)`", several="refused: save `state_dict()`", match="pickle: expected a network of one")
def pickled(loop: Loop) -> dict[str, Tensor]:
    file = io.BytesIO()
    torch.save(loop.net, file)
    file.seek(0)
    return plainly(loop._replace(net=torch.load(file, weights_only=False)))


@row("`double()`, `float()`, `to(dtype)`", tolerance=1e-5)
def converted(loop: Loop) -> dict[str, Tensor]:
    loop.net.float()
    loop.readout.float()
    return plainly(loop._replace(states=loop.states.float()))


@row("`to(torch.bfloat16)`", tolerance=0.1)
def bfloat16(loop: Loop) -> dict[str, Tensor]:
    loop.net.to(torch.bfloat16)
    loop.readout.to(torch.bfloat16)
    return plainly(loop._replace(states=loop.states.to(torch.bfloat16)))


@row("`half()`", tolerance=0.02)
def half(loop: Loop) -> dict[str, Tensor]:
    loop.net.half()
    loop.readout.half()
    return plainly(loop._replace(states=loop.states.half()))


@row("`parameters_to_vector`, `vector_to_parameters`", several="yes: this worker's part", plain=True)
def vectors(loop: Loop) -> dict[str, Tensor]:
    vector = torch.nn.utils.parameters_to_vector(loop.net.parameters())
    torch.nn.utils.vector_to_parameters(vector, loop.net.parameters())
    return plainly(loop)


@row("`named_parameters()`, `apply()`, `requires_grad_()`", plain=True)
def walks(loop: Loop) -> dict[str, Tensor]:
    assert {name for name, _ in loop.net.named_parameters()} == {"Kp.0", "Kq.0", "bp", "bq"}
    loop.net.apply(lambda module: module.train())
    loop.net.requires_grad_(True)
    return plainly(loop)


REPLACED = "that a parametrization, weight_norm, spectral_norm or pruning replaced"


@row("`weight_norm`, `spectral_norm`, parametrizations", several="refused", match=REPLACED)
def parametrized(loop: Loop) -> dict[str, Tensor]:
    parametrizations.weight_norm(loop.net, "bp")
    loop.train(sgd(loop))
    return loop.weights()


@row("`torch.nn.utils.prune`", several="refused: choose a sparser pattern", match=REPLACED)
def pruned(loop: Loop) -> dict[str, Tensor]:
    prune.l1_unstructured(loop.net, "bp", amount=4)
    loop.train(sgd(loop))
    return loop.weights()


# -- compilers and transforms ----------------------------------------------------------------------------------------


@row("`torch.compile(net)`", "yes: the sweep runs as it is", "yes: the sweep runs as it is", plain=True)
def compiled(loop: Loop) -> dict[str, Tensor]:
    net = torch.compile(loop.net, backend="eager")
    return trained_by(loop, lambda: scored(loop, net(state_of(loop))))


@row(
    "`torch.compile` of a function around it", "yes: the graph breaks there", "yes: the graph breaks there", plain=True
)
def compiled_around(loop: Loop) -> dict[str, Tensor]:
    around = torch.compile(lambda y: 1.0 * loop.net(1.0 * y), backend="eager")
    return trained_by(loop, lambda: scored(loop, around(state_of(loop))))


@row("`torch.compile(fullgraph=True)`", "refused", "refused", match="a sweep of dist_hdnn is one operation")
def full_graph(loop: Loop) -> dict[str, Tensor]:
    if first(loop):
        torch.compile(lambda y: 2.0 * loop.net(y), backend="eager", fullgraph=True)(state_of(loop))
    return {}


EXPORT = "refused: use `dist_hdnn.export`"


@row("`torch.export.export(net)`", EXPORT, EXPORT, match="got torch.export, which cannot record a sweep. Use dist_hdnn")
def exported(loop: Loop) -> dict[str, Tensor]:
    if first(loop):
        torch.export.export(loop.net, (state_of(loop),), strict=False)
    return {}


@row("`torch.jit.trace(net)`", EXPORT, EXPORT, match="got torch.jit.trace, which cannot record a sweep. Use dist_hdnn")
def traced(loop: Loop) -> dict[str, Tensor]:
    if first(loop):
        torch.jit.trace(loop.net, (state_of(loop),))
    return {}


@row("`torch.func.functional_call`", plain=True)
def functional(loop: Loop) -> dict[str, Tensor]:
    def loss() -> Tensor:
        weights = {name: 1.0 * parameter for name, parameter in loop.net.named_parameters()}
        return scored(loop, torch.func.functional_call(loop.net, weights, (state_of(loop),)))

    return trained_by(loop, loss)


FUNC = "refused: `torch.autograd.grad`, `net.linearize`"


@row("`torch.func.grad`, `vjp`, `jvp`, `vmap`", FUNC, FUNC, match="got those of torch.func")
def transformed(loop: Loop) -> dict[str, Tensor]:
    torch.func.grad(lambda y: loop.net(y).sum())(state_of(loop))
    return {}


@row("forward-mode derivatives, `dual_level`", FUNC, FUNC, match="or forward_ad")
def forward_mode(loop: Loop) -> dict[str, Tensor]:
    y = state_of(loop)
    if first(loop):
        with torch.autograd.forward_ad.dual_level():
            loop.net(torch.autograd.forward_ad.make_dual(y, torch.ones_like(y)))
    return {}


# -- mixed precision -------------------------------------------------------------------------------------------------


@row(
    "`torch.autocast`", "yes: the sweep in the network's dtype", "yes: the sweep in the network's dtype", tolerance=0.02
)
def autocast(loop: Loop) -> dict[str, Tensor]:
    front = nn.Linear(24, 24, bias=False)
    with torch.no_grad():
        front.weight.copy_(torch.eye(24))
    loop.net.float()
    loop.readout.float()

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            state = loop.net(loop.net.local(front(loop.states.float())))
            assert state.dtype == torch.float32
            return scored(loop, state)

    return trained_by(loop, loss)


def scaled(loop: Loop, scaler: Any) -> dict[str, Tensor]:
    """Five steps, the gradient of one weight infinite in the second: it belongs to one worker."""
    optimizer = sgd(loop)
    for step in range(5):
        optimizer.zero_grad()
        scaler.scale(loop.loss()).backward()
        if step == 1 and 0 in loop.net.owned:
            loop.net.bp.grad[0, 0] = math.inf  # type: ignore[index]
        scaler.step(optimizer)
        scaler.update()
    return loop.weights() | {"scale": torch.tensor(scaler.get_scale())}


@row(
    "`torch.amp.GradScaler`",
    several="refused: use the next row",
    match="got . on one and .*dist_hdnn.GradScaler",
)
def torch_scaler(loop: Loop) -> dict[str, Tensor]:
    return scaled(loop, torch.amp.GradScaler("cpu", init_scale=64.0))


@row("`dist_hdnn.GradScaler`")
def scaler_of_all(loop: Loop) -> dict[str, Tensor]:
    found = scaled(loop, dist_hdnn.GradScaler("cpu", init_scale=64.0))
    assert found["scale"] == 32.0
    return found


# -- wrappers and batches --------------------------------------------------------------------------------------------


@row(
    "`DistributedDataParallel(net)`",
    "yes: copies of a whole network",
    "refused",
    match="no DistributedData",
)
def data_parallel(loop: Loop) -> dict[str, Tensor]:
    wrapped = nn.parallel.DistributedDataParallel(loop.net)
    return trained_by(loop, lambda: scored(loop, wrapped(state_of(loop))))


@row(
    "`fully_shard(net)`, `FullyShardedDataParallel`",
    "refused",
    "refused: pass `workers=`",
    match="expected no FSDP around it",
)
def sharded(loop: Loop) -> dict[str, Tensor]:
    from torch.distributed.fsdp import fully_shard

    fully_shard(loop.net, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (1,)))
    loop.net(state_of(loop))
    return {}


@row("`nn.DataParallel(net)` without a GPU", plain=True)
def threads(loop: Loop) -> dict[str, Tensor]:
    wrapped = nn.DataParallel(loop.net)
    return trained_by(loop, lambda: scored(loop, wrapped(state_of(loop))))


@row("`ZeroRedundancyOptimizer`", several="refused", match="got ZeroRedundancyOptimizer, which looks")
def zero(loop: Loop) -> dict[str, Tensor]:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    loop.train(ZeroRedundancyOptimizer(loop.parameters, torch.optim.SGD, lr=RATE))
    return loop.weights()


def reduced(loop: Loop, of: Callable[[nn.Parameter], Tensor]) -> dict[str, Tensor]:
    """Two steps in which every worker takes the mean over all, as in data parallel loops."""
    optimizer = sgd(loop)
    for _ in range(STEPS):
        loop.backward()
        for parameter in loop.net.parameters():
            if loop.workers is not None:
                loop.workers.all_reduce(of(parameter))
        optimizer.step()
    return loop.weights()


ONE_OWNER = "expected {} of each one's own agents on workers . and ., got the same on both"


@row("`dist.all_reduce` of gradients", several="refused: one owner has all", match=ONE_OWNER.format("gradients"))
def reduced_gradients(loop: Loop) -> dict[str, Tensor]:
    return reduced(loop, lambda parameter: parameter.grad)  # type: ignore[arg-type, return-value]


@row(
    "`dist.broadcast` of weights, `PostLocalSGDOptimizer`",
    several="refused: one owner has all",
    match=ONE_OWNER.format("weights"),
)
def reduced_weights(loop: Loop) -> dict[str, Tensor]:
    return reduced(loop, lambda parameter: parameter.data)


def from_loader(loop: Loop, generator: torch.Generator) -> dict[str, Tensor]:
    """One epoch of three batches."""
    data = torch.utils.data.TensorDataset(loop.states, loop.labels)
    optimizer = sgd(loop)
    for states, labels in torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, generator=generator):
        loop._replace(states=states, labels=labels).train(optimizer, 1)
    return loop.weights()


@row("`DataLoader(shuffle=True)`, a seeded `generator`")
def seeded(loop: Loop) -> dict[str, Tensor]:
    return from_loader(loop, torch.Generator().manual_seed(3))


@row(
    "`DataLoader(shuffle=True)`, unseeded",
    several="refused: seed it",
    match="the same features on workers . and ., got different ones",
)
def unseeded(loop: Loop) -> dict[str, Tensor]:
    rank = 0 if loop.workers is None else loop.workers.rank
    return from_loader(loop, torch.Generator().manual_seed(3 + rank))


@row("`DistributedSampler`", several="refused: all workers see the same batch", match="the same features on workers")
def sampler(loop: Loop) -> dict[str, Tensor]:
    rank, size = (0, 1) if loop.workers is None else (loop.workers.rank, loop.workers.size)
    data = torch.utils.data.TensorDataset(loop.states, loop.labels)
    chosen = torch.utils.data.DistributedSampler(data, size, rank, shuffle=False)
    optimizer = sgd(loop)
    for states, labels in torch.utils.data.DataLoader(data, batch_size=5, sampler=chosen):
        loop._replace(states=states, labels=labels).train(optimizer, 1)
    return loop.weights()


# -- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    """A process group of one, which DistributedDataParallel and FSDP ask for."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
    assert not torch.is_anomaly_enabled()


@functools.cache
def alone(name: str) -> dict[str, Tensor]:
    return run(1, ROWS[name].habit, ROWS[name].readout, **ROWS[name].options)


@functools.cache
def expected(readout: str) -> dict[str, Tensor]:
    return run(1, plainly, readout)


@pytest.mark.parametrize("name", ROWS)
def test_a_habit_on_one_worker(name: str) -> None:
    found = ROWS[name]
    if found.one.startswith("refused"):
        with pytest.raises((ValueError, RuntimeError, NotImplementedError), match=found.match):
            alone(name)
        return
    result = alone(name)
    if found.plain:
        plain = expected(found.readout)
        assert difference({key.removeprefix("net.net"): value for key, value in result.items()}, plain) <= 1e-12


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
def test_a_habit_on_two_workers(name: str) -> None:
    found = ROWS[name]
    word = found.several.split(":")[0]
    if word == "refused":
        with pytest.raises((ValueError, RuntimeError, NotImplementedError), match=found.match):
            run(2, found.habit, found.readout, **found.options)
    elif word == "warned":
        with pytest.warns(UserWarning, match=found.match):
            run(2, found.habit, found.readout, **found.options)
    else:
        gap = difference(run(2, found.habit, found.readout, **found.options), alone(name))
        assert gap <= found.tolerance


def test_the_page_has_a_row_for_every_habit_and_no_other() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| PyTorch | one worker | several workers |") + 2
    table = [line for line in lines[start : start + len(ROWS) + 1] if line.startswith("|")]
    assert table == [f"| {found.name} | {found.one} | {found.several} |" for found in ROWS.values()]
    assert len(table) >= 40
