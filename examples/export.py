"""Train a small network, export it, and use the files as a program without dist_hdnn would.

    python examples/export.py [DIR]
    python examples/agent_by_agent.py DIR/agents      the agents of the same network, one by one

DIR (default: exported) gets network.pt2, model.safetensors, config.json and two files per agent.
"""

import sys
from pathlib import Path

import torch

import dist_hdnn


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "exported")
    net = dist_hdnn.HDNN(dist_hdnn.ring(8), width=2, layers=4, dtype=torch.float64)
    readout = dist_hdnn.LocalReadout(net.ownership, classes=2).double()
    model = torch.nn.Sequential(net, readout)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(200, net.neurons, generator=generator, dtype=torch.float64)
    labels = (states.sum(dim=1) > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(50):
        loss = readout.loss(model(states), labels).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    dist_hdnn.export(model, folder, example=states[:2])
    program = torch.export.load(folder / "network.pt2").module()  # this needs torch alone
    difference = (program(states) - model(states)).abs().max()
    print(f"loss {loss:.4f}; {folder} answers the same up to {difference:.0e}")


if __name__ == "__main__":
    main()
