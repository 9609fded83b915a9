"""Watch with a hook, layer by layer, how far the agents' answers are apart while a network trains.

    python examples/agent_states.py

A ring of 8 agents learns the mean of all their measurements; the hook sees every layer's state as it is computed.
"""

import torch

import dist_hdnn


def main() -> None:
    net = dist_hdnn.HDNN(dist_hdnn.ring(8), width=4, layers=8, step=0.25)
    generator = torch.Generator().manual_seed(0)
    measured = torch.randn(256, 8, 1, generator=generator)
    first = torch.cat([measured, torch.zeros(256, 8, 3)], dim=2).flatten(1)  # p[0] of every agent: its measurement
    wanted = measured.mean(dim=1)
    spread: dict[int, float] = {}

    def watch(layer: int, state: torch.Tensor) -> None:
        answers = torch.stack([block[:, -1] for block in net.by_agent(state).values()])
        spread[layer] = float(answers.std(dim=0).mean())

    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for step in range(201):
        with net.register_state_hook(watch):  # the hook ends with the block; without `with`, call handle.remove()
            last = net.by_agent(net(first))
        loss = sum((state[:, -1:] - wanted).square().mean() for state in last.values()) / len(last)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            by_layer = " ".join(f"{spread[layer]:.2f}" for layer in sorted(spread))
            print(f"step {step:3}  loss {loss:.4f}  spread of the agents' answers by layer: {by_layer}")


if __name__ == "__main__":
    main()
