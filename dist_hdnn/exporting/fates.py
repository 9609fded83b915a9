"""What happens to every message of real agents: the fates of `links`, laid out by sender, round and sample.

Gathers and replies of a network that goes over impaired links lose what it loses; other rounds, such as those of
gossip, lose messages independently, by the same probabilities. Latency is that of the link; jitter is drawn per
message. All are pure functions of seed, link, sample and round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.exporting.one_agent import Agent
from dist_hdnn.links.fates import Draw, Keys, Moment, Round, below
from dist_hdnn.links.model import Links
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.network.keyed_random import Purpose, normal

Floats = NDArray[np.float64]
Delays = Mapping[tuple[int, int], Floats]  # by (sender, receiver): (samples, rounds) in seconds, inf where lost
BESIDES = 32  # added to the number of an update for the rounds of its interconnection


def check_links(links: Links) -> None:
    """Raise ValueError for impairments that no real agent can have yet."""
    table = links.table
    for name, bad, instead in (
        ("delay", table.delay_most.any(), "latency and a deadline make slices late"),
        ("bits", table.bits.any(), "slices travel as they are computed"),
        ("dead, agent_outage", links.agent_outage is not None or links.dead, "use --kill"),
    ):
        if bad:
            raise ValueError(f"emulate: expected links without {name}, which agents cannot emulate: {instead}")


def rounds_of(agent: Agent) -> list[Round]:
    """Return the rounds of a sample in order, those of gossip last."""
    about, rounds = agent.about, []
    for layer in range(about["layers"]):
        for number, update in enumerate(about["schedule"][layer % len(about["schedule"])]):
            for each in update["rounds"]:
                place = number if each["matrix"] == update["K"] else number + BESIDES
                rounds.append(Round(layer, place, int(each["exchange"] == "scatter_add")))
    return rounds + [Round(about["layers"] + number) for number in range(about["readout"].get("rounds", 0))]


def sizes_of(agents: Mapping[int, Agent], links: Links, rounds: int, header: int) -> Floats:
    """Return the bytes of every message, (links, rounds), 0 where there is none."""
    sizes = np.zeros((len(links.table), rounds))
    row = {
        pair: k for k, pair in enumerate(zip(links.table.sender.tolist(), links.table.receiver.tolist(), strict=True))
    }
    for i, agent in agents.items():
        number, schedule = 0, agent.about["schedule"]
        for layer in range(agent.about["layers"]):
            for each in (each for update in schedule[layer % len(schedule)] for each in update["rounds"]):
                for j, shape in each["to"].items():
                    sizes[row[i, int(j)], number] = header + shape[0] * agent.dtype.itemsize
                number += 1
        average, classes = agent.about["readout"].get("average", {}), agent.weights.get("readout.bias", ())
        for j in (int(j) for j in average if int(j) != i):
            sizes[row[i, j], number:] = header + len(classes) * agent.dtype.itemsize
    return sizes


def delays_of(
    links: Links, network: HDNN | None, rounds: list[Round], samples: int, sizes: Floats | None = None
) -> dict[tuple[int, int], Floats]:
    """Return the delay of every message: latency, jitter, and bytes (links, rounds) / bandwidth.

    network: one that goes over these links; None where none can.
    """
    table, moment = links.table, links.moment(False)
    loss = Keys(links.seed, Draw.LOSS, table.sender, table.receiver)
    delays = np.empty((len(table), samples, len(rounds)))
    keys = [
        np.broadcast_to(each, (len(table), samples)).astype(np.uint64)
        for each in (table.sender[:, None], table.receiver[:, None], np.arange(samples))
    ]
    for number, at in enumerate(rounds):
        delays[:, :, number] = table.latency[:, None]
        if table.jitter.any():
            jitter = table.jitter[:, None] * normal(links.seed, Purpose.JITTER, number, *keys)
            delays[:, :, number] = np.maximum(delays[:, :, number] + jitter, 0.0)
        if sizes is not None:
            delays[:, :, number] += (sizes[:, number] / table.bandwidth)[:, None]
        lost = below(loss.bits(moment, samples, at.code), table.loss * moment.strength)
        if network is not None and at.layer < network.layers and at.update < BESIDES:
            lost = _lost(network, moment, at, samples, lost)
        delays[:, :, number][lost] = np.inf
    return {(int(i), int(j)): each for i, j, each in zip(table.sender, table.receiver, delays, strict=True)}


def _lost(network: HDNN, moment: Moment, at: Round, samples: int, lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which messages (links, samples) the network loses. lost: of links that its matrix does not use."""
    wires, links = network.layout.operators[0].K_exchange.wires, network.layout.links
    if wires is None or links is None:
        return lost
    delivered = wires.delivered(moment, at, samples)
    ends = (wires.receiver, wires.sender) if at.reply else (wires.sender, wires.receiver)
    lost[links.table.find(*ends)] = False if delivered is None else ~delivered.numpy()[wires.between]
    return lost
