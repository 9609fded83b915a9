"""Bugs to plant, one at a time: each a mistake that a competent change could make, and the tests nearest to it.

A bug replaces `old`, which stands exactly once in its file, by `new`.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """A bug by name; tests: files below tests/. survives: why no test can notice it, empty where one must."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""


HALO = ("topology/test_halo.py", "operators/test_exchange.py")
PATTERNS = ("topology/test_patterns.py",)
PARTITION = ("topology/test_partition.py",)
PARITY = ("network/test_architectures.py", "network/test_parity.py", "network/test_workers.py")
LAYERS = ("sweep/test_workspace.py", "sweep/test_memory_modes.py", "sweep/test_linearization.py")
LEDGER = (
    "transport/test_ledger.py",
    "operators/test_exchange.py",
    "network/test_network.py",
    "network/test_workers.py",
)
SHARED = ("transport/test_shared_memory.py",)
SAVES = ("faults/test_durable.py", "training/test_fill.py", "faults/test_damaged.py", "faults/test_resuming.py")
RECIPE = ("training/test_recipe.py", "training/test_loop.py", "training/test_optimizers.py")
READOUT = ("ends/test_readout.py", "ends/test_gossip.py")
LINKS = ("links/test_impaired.py", "links/test_fates.py")
ANALYSIS = (
    "analysis/test_bounds.py",
    "analysis/test_sensitivity.py",
    "analysis/test_symplecticity.py",
    "analysis/test_certificate.py",
)
STUDY = ("study/test_results.py", "study/test_axes.py", "study/test_plan.py")
ORDER = ("network/test_memory_order.py",)
DATA = ("data/test_toys.py", "data/test_batches.py", "data/test_tabular.py")

BUGS = (
    # who talks to whom
    Bug(
        "ghosts by number, not by owner",
        "topology/halo.py",
        'ghosts = foreign[np.argsort(partition.owners[foreign], kind="stable")]',
        "ghosts = foreign",
        HALO,
    ),
    Bug(
        "send lists of all workers",
        "topology/halo.py",
        "send=_by_peer(needing[mine[agents]], agents[mine[agents]])",
        "send=_by_peer(needing, agents)",
        HALO,
    ),
    Bug(
        "digests without widths",
        "topology/halo.py",
        "np.concatenate([ends, agents, halves[agents]])",
        "np.concatenate([ends, agents])",
        HALO,
    ),
    Bug(
        "lists compared without a transpose",
        "topology/halo.py",
        "tables[:, :, RECEIVE].T)",
        "tables[:, :, RECEIVE])",
        HALO,
    ),
    Bug(
        "hops count one too few",
        "topology/patterns.py",
        "for _ in range(k):",
        "for _ in range(k - 1):",
        PATTERNS,
    ),
    Bug(
        "thinned links one way only",
        "topology/patterns.py",
        "_from_sparse(_with_self(fewer), ",
        "_from_sparse(csr_array(np.triu(_with_self(fewer).toarray())), ",
        PATTERNS,
    ),
    Bug(
        "spanning forest not kept whole",
        "topology/patterns.py",
        "count = max(count, int(in_forest.sum()))",
        "count = int(count)",
        PATTERNS,
    ),
    Bug(
        "local computability of R Rᵀ",
        "topology/patterns.py",
        "product = t[part] @ r.T @ r",
        "product = t[part] @ r @ r.T",
        PATTERNS,
    ),
    Bug(
        "links used counts the diagonal",
        "topology/patterns.py",
        "return int(either.nnz - either.diagonal().sum()) // 2",
        "return int(either.nnz) // 2",
        PATTERNS,
    ),
    Bug(
        "load without block products",
        "topology/partition.py",
        "load = neurons / neurons.sum() + products / max(products.sum(), 1)",
        "load = neurons / neurons.sum()",
        PARTITION,
    ),
    Bug(
        "crossings repeat a slice per reader",
        "topology/partition.py",
        "pairs = np.unique(needing[between] * self.agents + pattern.columns[between])",
        "pairs = np.sort(needing[between] * self.agents + pattern.columns[between])",
        (*PARTITION, *HALO),
    ),
    Bug(
        "imbalance over the least",
        "topology/partition.py",
        '"imbalance": most / mean if mean else 1.0}',
        '"imbalance": most / least if least else 1.0}',
        PARTITION,
    ),
    # exchange
    Bug(
        "contributions of others overwrite",
        "operators/exchange.py",
        "(target if owned is None else owned[rows]).add_(contributions, alpha=share)",
        "(target if owned is None else owned[rows]).copy_(contributions)",
        ("operators/test_exchange.py", "network/test_workers.py"),
    ),
    Bug(
        "share of others forgotten",
        "operators/exchange.py",
        "index_add_(0, rows, contributions, alpha=share)",
        "index_add_(0, rows, contributions)",
        ("operators/test_exchange.py", "network/test_workers.py"),
    ),
    Bug(
        "a run of rows over a gap",
        "operators/exchange.py",
        "torch.nonzero(rows[1:] - rows[:-1] != 1)",
        "torch.nonzero(rows[1:] - rows[:-1] > 2)",
        ("operators/test_exchange.py", "network/test_workers.py"),
    ),
    Bug(
        "a mailbox with a slot too many",
        "transport/shm/rounds.ll",
        "%later = add i64 %round, %slots",
        "%later = add i64 %round, 3",
        SHARED,
    ),
    Bug(
        "ghosts that are written before they are given up",
        "transport/shm/rounds.ll",
        "%free = icmp sge i64 %allowed, %round",
        "%free = icmp sge i64 %allowed, 0",
        SHARED,
    ),
    Bug(
        "memory that is used again before its sender has closed",
        "transport/shm/peers.py",
        "if self._rounds.look(int(entry[0].ctypes.data) + CLOSED)]",
        "if self._rounds.look(int(entry[0].ctypes.data) + CLOSED) < 2]",
        SHARED,
    ),
    Bug(
        "a heap that forgets where a piece ends",
        "transport/shm/memory.py",
        "gaps[at : at + 1] = [(begin + size, end)] if end - begin > size else []",
        "gaps[at : at + 1] = [(begin + size - LINE, end)] if end - begin > size else []",
        SHARED,
    ),
    Bug(
        "bytes without the batch",
        "operators/exchange.py",
        "return slices.shape[1] * slices.element_size()",
        "return slices.element_size()",
        LEDGER,
    ),
    Bug(
        "ordered sums by row first",
        "operators/deterministic.py",
        "order = np.lexsort((all_rows, all_columns))",
        "order = np.lexsort((all_rows[::-1], all_columns))",
        ("operators/test_ordered.py", "operators/test_exchange.py", "network/test_workers.py"),
    ),
    Bug(
        "ledger forgets rounds",
        "transport/traffic.py",
        "self._rounds[key] += rounds",
        "self._rounds[key] += 1",
        LEDGER,
    ),
    Bug(
        "collectives counted among neighbors",
        "transport/traffic.py",
        "booked = (rounds, messages, amount, messages if plan.collective else 0)",
        "booked = (rounds, messages, amount, 0)",
        (*LEDGER, "network/test_workers.py"),
    ),
    Bug(
        "non-neighbors of the transposed links",
        "transport/traffic.py",
        "count += rounds * _beyond(messages, links)",
        "count += _beyond(messages, links)",
        LEDGER,
    ),
    # operators, terms, steps
    Bug(
        "q before p in the state, everywhere",
        "network/layout.py",
        "for part in range(parts)]",
        "for part in reversed(range(parts))]",
        ("network/test_parity.py",),
    ),
    Bug(
        "gradient's adjoint without scale",
        "operators/panel_products.py",
        "torch.baddbmm(out, K, panels, beta=0, alpha=scale, out=out)",
        "torch.baddbmm(out, K, panels, beta=0, out=out)",
        PARITY,
    ),
    Bug(
        "weight gradient of the first pair only",
        "operators/panel_products.py",
        "beta=int(accumulate or number > 0), alpha=share)",
        "beta=int(accumulate), alpha=share)",
        (*PARITY, "operators/test_operators.py"),
    ),
    Bug(
        "output not cleared",
        "operators/panel_products.py",
        "            self.output.tensor.zero_()",
        "            pass",
        PARITY,
    ),
    Bug(
        "skew adjoint with the sign of the value",
        "dynamics/linear.py",
        "torch.sub(other, self.rows.out(), out=self.cotangent)",
        "torch.sub(self.rows.out(), other, out=self.cotangent)",
        PARITY,
    ),
    Bug(
        "damping left out of the adjoint",
        "dynamics/linear.py",
        "return total.sub_(dv, alpha=self.gamma) if self.gamma else total",
        "return total",
        PARITY,
    ),
    Bug(
        "biases overwritten by the second use",
        "operators/products.py",
        "self.views[0].add_(w.sum(dim=1))",
        "self.views[0].copy_(w.sum(dim=1))",
        ("operators/test_tiles.py",),
    ),
    Bug(
        "near identity without h in the adjoint",
        "dynamics/terms.py",
        "f = torch.add(dv, w, alpha=self.h, out=self.v)",
        "f = torch.add(dv, w, out=self.v)",
        PARITY,
    ),
    Bug(
        "tangent of near identity without dx",
        "dynamics/terms.py",
        "torch.add(dx, f, alpha=self.h, out=self.u)\n        return f.add_(_times_slope",
        "self.u.copy_(f).mul_(self.h)\n        return f.add_(_times_slope",
        ("sweep/test_linearization.py",),
    ),
    Bug(
        "drift's energy without the half",
        "dynamics/terms.py",
        "return 0.5 * use.x.owned.square().sum(dim=0)",
        "return use.x.owned.square().sum(dim=0)",
        ("sweep/test_linearization.py",),
    ),
    Bug(
        "undo with the sign of advance",
        "dynamics/step.py",
        "torch.add(use.new, v, alpha=-use.scale, out=use.old)",
        "torch.add(use.new, v, alpha=use.scale, out=use.old)",
        (*LAYERS, "network/test_network.py"),
    ),
    Bug(
        "tangent without the step",
        "dynamics/step.py",
        "use.dv.owned.add_(dv, alpha=use.scale)",
        "use.dv.owned.add_(dv)",
        ("sweep/test_linearization.py",),
    ),
    Bug(
        "a fresh copy not refreshed",
        "dynamics/step.py",
        "            use.x.owned.copy_(use.copied)\n        v = use.term.value(use, use.forward_sum)",
        "            pass\n        v = use.term.value(use, use.forward_sum)",
        (*PARITY, *LAYERS),
    ),
    Bug(
        "yoshida's inner step",
        "dynamics/integrators.py",
        "_INNER = 1.0 - 2.0 * _OUTER",
        "_INNER = 1.0 - _OUTER",
        ("network/test_architectures.py", "network/test_network.py", *ANALYSIS),
    ),
    Bug(
        "a reversal that books no gather",
        "dynamics/reversal.py",
        "            self.exchange.gather(self.there)\n            v = gradient.value",
        "            v = gradient.value",
        ("sweep/test_memory_modes.py", "sweep/test_workspace.py"),
    ),
    Bug(
        "reversible compares with nothing",
        "sweep/tape.py",
        "        self.progress = self.progress.compared(self.start, packed, self._scratch)",
        "        pass",
        ("sweep/test_memory_modes.py",),
    ),
    Bug(
        "weights in other memory not recorded anew",
        "sweep/program.py",
        "        key = place, torch.is_inference_mode_enabled(), *addresses(weights)",
        "        key = place, torch.is_inference_mode_enabled()",
        ("sweep/test_program.py",),
    ),
    Bug(
        "sums of biases written over each other",
        "operators/tiles/sums.py",
        '    with b.if_then(b.icmp_signed("!=", add, code.number(0))):',
        '    with b.if_then(b.icmp_signed("!=", code.number(0), code.number(0))):',
        ("network/test_architectures.py",),
    ),
    Bug(
        "a further backward replayed as the first one",
        "sweep/sweep.py",
        "(tape.place, again))",
        "(tape.place, False))",
        ("sweep/test_program.py",),
    ),
    Bug(
        "replays booked nowhere",
        "sweep/program.py",
        "            self._recording.play()\n            self.ledger.book_all(self._rounds)",
        "            self._recording.play()",
        ("sweep/test_program.py",),
    ),
    Bug(
        "gradients of replays handed out where the next ones go",
        "sweep/sweep.py",
        "        results = {name: [each.clone() for each in found] for name, found in results.items()}",
        "        results = {name: [each for each in found] for name, found in results.items()}",
        ("sweep/test_program.py",),
    ),
    Bug(
        "anchors not put back",
        "sweep/tape.py",
        "            _copy(known, self.start)",
        "            pass",
        ("sweep/test_memory_modes.py",),
    ),
    Bug(
        "recompute reads the last segment's state",
        "sweep/tape.py",
        "            _copy(self.starts[segment], self.start)",
        "            pass",
        ("sweep/test_memory_modes.py",),
    ),
    Bug(
        "integral of tanh without its constant",
        "operators/activations.py",
        "torch.nn.functional.softplus(-2 * u.abs()) - math.log(2.0)",
        "torch.nn.functional.softplus(-2 * u.abs())",
        ("network/test_network.py", "network/test_architectures.py", "analysis/test_certificate.py"),
        survives="an energy is defined up to a constant, and only its differences are read",
    ),
    Bug(
        "integral of arctan with the wrong half",
        "operators/activations.py",
        "u * u.atan() - 0.5 * torch.log1p(u * u)",
        "u * u.atan() - torch.log1p(u * u)",
        ("operators/test_activations.py",),
    ),
    # parameters
    Bug(
        "nine rounds of philox",
        "links/philox.py",
        "ROUNDS = 10",
        "ROUNDS = 9",
        ("network/test_network.py",),
    ),
    Bug(
        "layers share their random numbers",
        "network/keyed_random.py",
        "np.full_like(element, layer)",
        "np.full_like(element, 0)",
        ("network/test_network.py", "network/test_workers.py"),
    ),
    Bug(
        "smoothness without the half",
        "network/time_course.py",
        "return 0.5 * h * sum(",
        "return h * sum(",
        ("network/test_network.py", "training/test_loop.py", "network/test_time_course.py"),
    ),
    Bug(
        "smoothness gradient of inner layers once",
        "network/time_course.py",
        "gradient[:-1].add_(part[:-1], alpha=scale).sub_(part[1:], alpha=scale)",
        "gradient[:-1].sub_(part[1:], alpha=scale)",
        ("network/test_network.py", "training/test_loop.py"),
    ),
    Bug(
        "knots from the wrong side",
        "network/time_course.py",
        "return first * (1 - share) + parameter.index_select(0, lower + 1) * share",
        "return first * share + parameter.index_select(0, lower + 1) * (1 - share)",
        ("network/test_time_course.py",),
    ),
    Bug(
        "prolongation shifted by half a layer",
        "training/multilevel.py",
        "dtype=torch.float64) + 0.5) / layers",
        "dtype=torch.float64)) / layers",
        ("training/test_multilevel.py",),
    ),
    Bug(
        "levels keep their step",
        "training/multilevel.py",
        "Level(depth, step * layers / depth, range(start, end))",
        "Level(depth, step, range(start, end))",
        ("training/test_multilevel.py",),
    ),
    # readouts
    Bug(
        "gossip weights with the smaller degree",
        "ends/gossip.py",
        "np.maximum(degrees[rows], degrees[others])",
        "np.minimum(degrees[rows], degrees[others])",
        READOUT,
    ),
    Bug(
        "gossip one round short",
        "ends/gossip.py",
        "for _ in range(self.rounds):",
        "for _ in range(self.rounds - 1):",
        READOUT,
    ),
    Bug(
        "local loss is a sum over agents",
        "ends/readout.py",
        "share = 1.0 / max(len(labels) * len(self.output_agents), 1)",
        "share = 1.0 / max(len(labels), 1)",
        READOUT,
    ),
    Bug(
        "ties by the smaller share",
        "ends/readout.py",
        "votes + 0.5 * shares",
        "votes - 0.5 * shares",
        READOUT,
    ),
    Bug(
        "squared error summed over targets",
        "ends/targets.py",
        "each = (scores - targets).square().mean(dim=-1)",
        "each = (scores - targets).square().sum(dim=-1)",
        READOUT,
    ),
    # training
    Bug(
        "learning rate one step ahead",
        "training/loop.py",
        "            rate = recipe.rate(state.step, epochs * batches)",
        "            rate = recipe.rate(state.step + 1, epochs * batches)",
        RECIPE,
    ),
    Bug(
        "biases decay",
        "training/loop.py",
        "(others, 0.0)",
        "(others, recipe.weight_decay)",
        RECIPE,
    ),
    Bug(
        "readout does not decay",
        "training/loop.py",
        "decaying = [*network.matrices(), readout.weight]",
        "decaying = [*network.matrices()]",
        RECIPE,
    ),
    Bug(
        "loss of an epoch forgets the samples",
        "training/loop.py",
        "loss.detach().double() * model.readout.amount(target)",
        "loss.detach().double()",
        RECIPE,
    ),
    Bug(
        "the last batch of an evaluation weighs as a whole one",
        "training/evaluation.py",
        "readout.loss(scores, target).double() * readout.amount(target)",
        "readout.loss(scores, target).double() * batch",
        ("training/test_recipe.py", "training/test_loop.py"),
    ),
    Bug(
        "batches of every epoch alike",
        "data/batches.py",
        'shuffled(samples, seed, "batch order", epoch)',
        'shuffled(samples, seed, "batch order", 0)',
        ("data/test_batches.py", *RECIPE),
    ),
    Bug(
        "the short last batch dropped",
        "data/batches.py",
        "for start in range(0, samples, batch_size)]",
        "for start in range(0, samples - batch_size + 1, batch_size)]",
        ("data/test_batches.py",),
    ),
    # what is saved
    Bug(
        "manifest not synced",
        "training/checkpoints/manifest.py",
        "    write_durably(folder / NAME, _first_line(rest) + rest)",
        "    (folder / NAME).write_bytes(_first_line(rest) + rest)",
        SAVES,
    ),
    Bug(
        "tensor file not synced",
        "training/checkpoints/weights_file.py",
        "os.fsync(",
        "(lambda number: None)(",
        SAVES,
    ),
    Bug(
        "renamed before the manifest is there",
        "training/checkpoints/saver.py",
        """        write_manifest(part, manifest)
        doomed = [self._retired(folder)] if folder.exists() else []  # of the same step, before a restart
        part.rename(folder)
""",
        """        doomed = [self._retired(folder)] if folder.exists() else []  # of the same step, before a restart
        part.rename(folder)
        write_manifest(folder, manifest)
""",
        SAVES,
    ),
    Bug(
        "folder of checkpoints not synced",
        "training/checkpoints/saver.py",
        "        sync_folder(self.folder)\n",
        "",
        SAVES,
    ),
    Bug(
        "hashes not compared",
        "training/checkpoints/manifest.py",
        'if digest != manifest.files[name]["sha256"]:',
        "if False:",
        SAVES,
    ),
    Bug(
        "damaged manifests believed",
        "training/checkpoints/manifest.py",
        "if first + newline != _first_line(rest):",
        "if False:",
        SAVES,
    ),
    Bug(
        "a gap in the files goes unseen",
        "training/checkpoints/snapshot.py",
        "missing -= len(hit)",
        "missing = 0",
        ("training/test_fill.py",),
    ),
    Bug(
        "finite weights not asked for",
        "training/checkpoints/saver.py",
        "if tensor.is_floating_point() and not torch.isfinite(tensor).all():",
        "if False:",
        ("faults/test_non_finite.py", *SAVES),
    ),
    # analysis and study
    Bug(
        "sensitivity of the wrong order",
        "analysis/sensitivity.py",
        "product = product @ M",
        "product = M @ product",
        ANALYSIS,
    ),
    Bug(
        "symplecticity of the transpose",
        "analysis/symplecticity.py",
        "torch.linalg.matrix_norm(M @ J @ M.mT - J)",
        "torch.linalg.matrix_norm(M.mT @ J @ M - J)",
        ANALYSIS,
    ),
    Bug(
        "bound of a shear without its root",
        "analysis/bounds.py",
        "(a + math.sqrt(a * a + 4.0)) / 2.0 for a in shears",
        "(a + math.sqrt(a * a + 2.0)) / 2.0 for a in shears",
        ANALYSIS,
    ),
    Bug(
        "stability limit of one factor",
        "analysis/bounds.py",
        "return h * math.sqrt(constants[0] * constants[1]), stability_limit",
        "return h * constants[0], stability_limit",
        ANALYSIS,
    ),
    Bug(
        "spread over n",
        "study/results.py",
        "statistics.stdev(map(float, column))",
        "statistics.pstdev(map(float, column))",
        STUDY,
    ),
    Bug(
        "a front of what is worst",
        "study/results.py",
        '{"minimize": 1.0, "maximize": -1.0}',
        '{"minimize": -1.0, "maximize": -1.0}',
        STUDY,
    ),
    Bug(
        "a front without ties",
        "study/results.py",
        "and other != own for _, other in costs)",
        "for _, other in costs if other is not own)",
        STUDY,
    ),
    # data
    Bug(
        "swiss roll with equal radii",
        "data/toys.py",
        "second = (radius + 0.2)[:, None] * circle",
        "second = radius[:, None] * circle",
        DATA,
    ),
    Bug(
        "noise of the wrong stream",
        "data/toys.py",
        'keyed_stream(cut.seed, f"noise of {name}")',
        'keyed_stream(0, f"noise of {name}")',
        DATA,
    ),
    # impaired links
    Bug(
        "agents answer what they have not heard",
        "operators/wires.py",
        "lost = unheard if lost is None else lost if unheard is None else lost | unheard",
        "lost = unheard if lost is None else lost",
        LINKS,
    ),
    Bug(
        "cotangents meet the fates of slices, not of answers",
        "operators/impaired.py",
        "self._pull(part, slices, at._replace(reply=1))",
        "self._pull(part, slices, at)",
        LINKS,
    ),
    Bug(
        "the adjoint of a held slice forgets the line",
        "operators/impaired.py",
        "missing, 2.0 if line else 1.0)",
        "missing, 1.0)",
        LINKS,
    ),
    Bug(
        "masked tiles take the fates of slices for those of answers backward",
        "operators/tiles/masked.py",
        "reversed(fates) if adjoint else fates",
        "fates",
        LINKS,
    ),
    Bug(
        "what is certainly lost arrives once in 2**32 times or always",
        "operators/tiles/masked.py",
        "bits[certain] = 0",
        "bits[certain] = 255",
        LINKS,
    ),
    Bug(
        "evaluations share the fates of training",
        "links/fates.py",
        "code << 1 | moment.training",
        "code << 1",
        LINKS,
    ),
    Bug(
        "an outage of one way counts for both",
        "operators/wires.py",
        "for rows in self.rows:",
        "for rows in self.rows[:1] * 2:",
        LINKS,
    ),
    Bug(
        "the least delay is left out",
        "operators/wires.py",
        "least[:, None] + ((bits",
        "((bits",
        LINKS,
    ),
    # the order in memory
    Bug(
        "slices in another order pass for a run of rows",
        "operators/exchange.py",
        "    cuts = torch.nonzero(",
        "    rows = rows.sort().values\n    cuts = torch.nonzero(",
        ORDER,
    ),
    Bug(
        "biases stay where the agents were",
        "sweep/weights.py",
        "K.order_rows(bias, of_states=name not in self.biases_in_panels)",
        "K.order_rows(bias) if name in self.biases_in_panels else bias",
        ORDER,
    ),
    Bug(
        "sums follow the order in memory",
        "operators/tiles/operator.py",
        "np.lexsort((pattern.block_rows, columns))",
        "np.lexsort((np.argsort(order)[pattern.block_rows], columns))",
        ORDER,
    ),
)
