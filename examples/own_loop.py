"""A network in your own training loop, where every agent has its own loss.

    python examples/own_loop.py
    torchrun --standalone --nproc-per-node=2 examples/own_loop.py

Both print the same losses. 16 agents on a grid see 2 x 2 pixels each of scikit-learn's digits, and agent i learns, by
talking to its neighbors, whether the whole image shows the digit i mod 10: its last neuron says so.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import binary_cross_entropy_with_logits

import dist_hdnn


def patches() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images as first states of 4 x 4 agents, 2 x 2 pixels each, agent by agent (1797, 64), and their digits."""
    digits = load_digits()
    squares = (digits.images / 8 - 1).reshape(-1, 4, 2, 4, 2).swapaxes(2, 3)  # rows and columns of agents, then pixels
    return torch.tensor(squares.reshape(-1, 64)), torch.from_numpy(digits.target.astype(np.int64))


def main() -> None:
    states, digits = patches()
    with dist_hdnn.connect() as workers:
        net = dist_hdnn.HDNN(dist_hdnn.grid(4, 4), width=4, layers=8, workers=workers, dtype=torch.float64)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for step in range(60):
            batch = torch.arange(50 * step, 50 * step + 50) % 1500
            last = net.by_agent(net(net.local(states[batch])))
            losses = [
                binary_cross_entropy_with_logits(4 * state[:, -1], (digits[batch] == agent % 10).double())
                for agent, state in last.items()
            ]
            loss = torch.stack(losses).sum()
            optimizer.zero_grad()
            # No all-reduce of gradients: every weight has one owner, and its effect on the losses of other workers'
            # agents comes back over the links in the backward sweep.
            loss.backward()
            optimizer.step()
            total = loss.detach().clone()
            workers.all_reduce(total)  # to print it; training needs no sum over workers
            if workers.rank == 0 and step % 10 == 9:
                print(f"step {step + 1:2}  loss of all agents {total:.9f}")


if __name__ == "__main__":
    main()
