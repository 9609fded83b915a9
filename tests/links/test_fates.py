"""Fates are a pure function of seed, link, step, layer, round, direction and sample, with the right statistics."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from links.oracle import over, table_of
from networks import GRAPHS

from dist_hdnn.links.fates import Draw, Keys, Moment, Round, below
from dist_hdnn.links.model import Links
from dist_hdnn.operators.wires import Wires
from dist_hdnn.topology import as_graph

PINNED = [
    [3939384830, 1934235477, 2721898939],
    [2398938627, 3600179017, 3467828872],
    [1355420938, 1606656369, 2026142034],
]
MOMENT, AT = Moment(True, 3, 0), Round(5, 1)
BATCH = 64


def keys(draw: Draw = Draw.LOSS, links: int = 20, seed: int = 0) -> Keys:
    return Keys(seed, draw, np.arange(links), np.arange(links) + 1)


def wires(graph: nx.Graph, seed: int = 0, columns: dict[str, object] | None = None, **options: object) -> Wires:
    """The links of all agents of a network."""
    net = over(graph, {"loss": 0.3} if columns is None else columns, {"seed": seed, **options}, layers=1)
    made = net.sweep.spec.graphs[0].K_exchange.wires
    assert isinstance(made, Wires)
    return made


def arrived(
    of: Wires, moment: Moment = MOMENT, at: Round = AT, batch: int = BATCH
) -> dict[tuple[int, int], np.ndarray]:
    """Link -> which messages of a round arrive, (batch,)."""
    delivered = of.delivered(moment, at, batch)
    assert delivered is not None
    rows = delivered.numpy()[of.between]
    return dict(zip(zip(of.sender.tolist(), of.receiver.tolist(), strict=True), rows, strict=True))


def test_a_batch_in_parts_has_the_fates_of_the_whole() -> None:
    of = keys()
    whole = of.bits(Moment(False, 2, 100), 50, AT.code)
    parts = [of.bits(Moment(False, 2, 100 + first), 10, AT.code) for first in range(0, 50, 10)]
    assert (np.concatenate(parts, axis=1) == whole).all()
    far = keys().bits(Moment(False, 2, 2**32 - 2), 4)
    assert (far[:, 2:] == keys().bits(Moment(False, 2, 2**32), 2)).all() and len(np.unique(far)) == far.size


def test_the_order_of_asking_changes_nothing() -> None:
    rounds = [Round(*numbers) for numbers in itertools.product(range(3), range(2), range(2), range(2))]
    first, second = wires(GRAPHS["ring"]), wires(GRAPHS["ring"])
    there = {at: arrived(first, at=at) for at in rounds}
    arrived(second, moment=Moment(False, 9, 7), batch=5)
    back = {at: arrived(second, at=at) for at in reversed(rounds)}
    for at in rounds:
        assert all((there[at][link] == back[at][link]).all() for link in there[at])


@pytest.mark.parametrize("columns", [{"loss": 0.3}, {"loss": 0.3, "burst": 3.0}, {"outage": 0.3}], ids=str)
def test_a_link_more_changes_the_fate_of_no_other(columns: dict[str, object]) -> None:
    graph = nx.cycle_graph(8)
    larger = nx.compose(graph, nx.Graph([(0, 4), (2, 6)]))
    before, after = arrived(wires(graph, columns=columns)), arrived(wires(larger, columns=columns))
    assert len(after) == len(before) + 4
    assert all((after[link] == fates).all() for link, fates in before.items())


@given(st.integers(0, 2**55 - 1), st.integers(0, 2**40), st.integers(0, 4000))
@settings(max_examples=50, deadline=None)
def test_what_is_lost_at_a_probability_is_lost_at_every_higher_one(seed: int, step: int, layer: int) -> None:
    bits = keys(seed=seed).bits(Moment(True, step), BATCH, Round(layer).code)
    lost = [below(bits, np.full(20, p)) for p in (0.0, 1e-9, 0.1, 0.35, 0.9, 1 - 1e-12, 1.0)]
    assert not lost[0].any() and lost[-1].all()
    assert all((fewer <= more).all() for fewer, more in itertools.pairwise(lost))


def test_strength_scales_all_losses_alike() -> None:
    of = wires(GRAPHS["grid"], columns={"seed": 0, "loss": (0.0, 0.9), "outage": (0.0, 0.5)})
    fates = [arrived(of, MOMENT._replace(strength=s)) for s in (0.1, 0.5, 1.0, 1.5)]
    for weaker, stronger in itertools.pairwise(fates):
        assert all((stronger[link] <= weaker[link]).all() for link in weaker)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.93])
def test_rates_are_the_probabilities(p: float) -> None:
    lost = below(keys(links=1000).bits(MOMENT, 1000, AT.code), np.full(1000, p))
    error = (p * (1 - p) / lost.size) ** 0.5
    assert abs(lost.mean() - p) < 5 * error
    rows, columns = lost.mean(axis=1), lost.mean(axis=0)
    for shares in (rows, columns):  # neither links nor samples have a rate of their own
        assert 0.8 < shares.std() / (p * (1 - p) / 1000) ** 0.5 < 1.2


@pytest.mark.parametrize("burst", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("p", [0.1, 0.4])
def test_runs_of_losses_have_their_mean_length_and_keep_the_rate(burst: float, p: float) -> None:
    of, layers = wires(GRAPHS["grid"], columns={"loss": p, "burst": burst}), 400
    lost = ~np.stack([np.stack(list(arrived(of, at=Round(layer)).values())) for layer in range(layers)])
    assert abs(lost.mean() - p) < 0.015 * burst
    starts = lost[1:-50] & ~lost[:-51]  # runs that begin within, and have room to end
    ends = lost[1:-1] & ~lost[2:]
    assert lost[1:].sum() / starts.sum() == pytest.approx(burst if burst > 1 else 1 / (1 - p), rel=0.2)
    assert starts.sum() <= ends.sum() * 1.05


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def test_steps_layers_rounds_sweeps_samples_links_and_purposes_are_independent() -> None:
    def lost(
        step: int = 0, at: Round = AT, draw: Draw = Draw.LOSS, training: bool = True, seed: int = 0, first: int = 0
    ) -> np.ndarray:
        return below(keys(draw, 300, seed).bits(Moment(training, step, first), 300, at.code), np.full(300, 0.3))

    one = lost()
    others = [
        lost(step=1),
        lost(step=2**32),
        lost(at=AT._replace(layer=6)),
        lost(at=AT._replace(update=0)),
        lost(at=AT._replace(reply=1)),
        lost(at=AT._replace(backward=1)),
        lost(draw=Draw.RENEWAL),
        lost(draw=Draw.OUTAGE),
        lost(training=False),
        lost(seed=1),
        lost(seed=2**40),
        lost(first=300),
        np.roll(one, 1, axis=0),
        np.roll(one, 1, axis=1),
        one.T,
    ]
    for other in others:
        assert abs(correlation(one, other)) < 5 / one.size**0.5
    back = Keys(0, Draw.LOSS, np.arange(300) + 1, np.arange(300)).bits(Moment(True), 300, AT.code)
    assert abs(correlation(one, below(back, np.full(300, 0.3)))) < 5 / one.size**0.5


def test_no_two_rounds_of_a_deep_sweep_share_a_code() -> None:
    codes = {Round(*each).code for each in itertools.product(range(1000), range(7), range(2), range(2))}
    assert len(codes) == 1000 * 7 * 2 * 2


def test_pairing_decides_which_answers_are_lost_with_their_slices() -> None:
    graph = GRAPHS["ring"]
    of = {pair: wires(graph, pair=pair) for pair in ("exchange", "answer", "none")}
    heard = {pair: arrived(each, at=AT) for pair, each in of.items()}
    answered = {pair: arrived(each, at=AT._replace(reply=1)) for pair, each in of.items()}
    for link in heard["none"]:
        came = heard["none"][link]
        assert (came == heard["exchange"][link]).all() and (came == heard["answer"][link]).all()
        assert (answered["exchange"][link] == came).all()
        assert (answered["answer"][link] == (came & answered["none"][link])).all()
        assert not (answered["none"][link] == came).all()


def test_outages_cut_a_link_for_a_whole_sample_in_both_directions() -> None:
    of = wires(GRAPHS["ring"], columns={"outage": 0.3})
    rounds = [
        arrived(of, at=Round(layer, update, reply)) for layer in range(3) for update in (0, 1) for reply in (0, 1)
    ]
    for (i, j), fates in rounds[0].items():
        assert all((fates == other[i, j]).all() and (fates == other[j, i]).all() for other in rounds)


def test_agents_that_are_down_lose_everything_that_they_send_and_get() -> None:
    links = Links(table_of(as_graph(GRAPHS["ring"])), 8, agent_outage=np.full(8, 0.3), failout=0.5, dead=(2,), seed=4)
    down = links.down(MOMENT, 500)
    assert down is not None and down[2].all()
    assert abs(down[[0, 1, 3, 4, 5, 6, 7]].mean() - (0.3 + 0.7 * 0.5 / 8)) < 0.04
    of = wires(GRAPHS["ring"], 4, {}, agent_outage=np.full(8, 0.3), failout=0.5, dead=(2,))
    for (i, j), fates in arrived(of, batch=500).items():
        assert (fates == ~(down[i] | down[j])).all()
    evaluated = links.down(MOMENT._replace(training=False), 500)
    assert evaluated is not None and evaluated[2].all() and evaluated[0].mean() < 0.4


def test_delays_lie_between_their_bounds_and_stay_the_same_in_a_sweep() -> None:
    of = wires(GRAPHS["grid"], columns={"delay_least": 1, "delay_most": 3})
    delays = of.delays(MOMENT, 0, 300)
    assert delays is not None
    between = delays[of.between]
    assert set(between.unique().tolist()) == {1, 2, 3} and not delays[~of.between].any()
    counts = between.flatten().bincount()[1:].double()
    assert float((counts / counts.sum() - 1 / 3).abs().max()) < 0.03


def test_the_ramp_of_a_step_is_a_function_of_the_step() -> None:
    graph = as_graph(GRAPHS["ring"])

    def strengths(**options: object) -> list[float]:
        links = Links(table_of(graph, loss=0.5), 8, **options)  # type: ignore[arg-type]
        return [links.moment(training=True).strength for _ in range(200)]

    uniform = strengths(ramp="uniform")
    assert uniform == strengths(ramp="uniform") != strengths(ramp="uniform", seed=1)
    assert 0.4 < np.mean(uniform) < 0.6 and min(uniform) < 0.05 and max(uniform) > 0.95
    assert strengths(ramp="grow", steps=100)[::50] == [0.0, 0.5, 1.0, 1.0]
    scheduled = strengths(strengths={0: 0.2, 50: 1.0})
    assert scheduled == [0.2] * 50 + [1.0] * 150
    links = Links(table_of(graph, loss=0.5), 8, ramp="uniform", strengths={0: 0.2, 50: 0.7})
    assert links.moment(training=False).strength == 0.7, "evaluations have the last one"


def test_these_numbers_never_change() -> None:
    """Runs are replayed by later versions: these are of the first one."""
    bits = Keys(7, Draw.LOSS, np.array([0, 1, 2**20]), np.array([1, 0, 5])).bits(Moment(True, 2**33, 10), 3, AT.code)
    assert bits.tolist() == PINNED
