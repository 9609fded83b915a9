"""Huge pages are asked for behind large tensors alone, and change nothing but the time of the first write."""

import re
import sys
from pathlib import Path

import pytest
import torch

from dist_hdnn import HDNN
from dist_hdnn.sweep import pages
from dist_hdnn.topology import ring

SMAPS = Path("/proc/self/smaps")
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def advised(address: int) -> bool:
    """Tell whether the mapping of an address has the flag of MADV_HUGEPAGE."""
    found = False
    for line in SMAPS.read_text().splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            found = int(span[1], 16) <= address < int(span[2], 16)
        elif found and line.startswith("VmFlags:"):
            return "hg" in line.split()
    raise AssertionError("the address has a mapping")


@pytest.mark.skipif(not (SMAPS.exists() and OFFERED.exists()), reason="needs Linux with huge pages")
def test_only_large_tensors_get_huge_pages():
    large, small = torch.empty(5 * pages.LARGE), torch.empty(1 << 12)
    pages.in_huge_pages(large)
    pages.in_huge_pages(small)
    middle = large.data_ptr() + large.nbytes // 2
    assert advised(middle)
    assert not advised(small.data_ptr())


def test_outputs_in_huge_pages_have_the_same_bits_and_may_be_changed(monkeypatch):
    net = HDNN(ring(8), 512, layers=2, step=0.1, dtype=torch.float32)
    y = torch.randn(512, net.neurons, requires_grad=True)  # 8 MiB

    def outputs() -> list[torch.Tensor]:
        output = net(y)
        return [output.detach(), *torch.autograd.grad(output.sum(), [y, *net.parameters()])]

    asked: list[int] = []
    monkeypatch.setattr(pages, "LARGE", sys.maxsize)
    before = outputs()
    monkeypatch.setattr(pages, "LARGE", 1 << 20)
    monkeypatch.setattr(pages, "_madvise", lambda: lambda address, length, advice: asked.append(length))
    after = outputs()
    assert len(asked) >= 4  # the rows to pack and the output, forward and backward
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    output = net(y)
    output.add_(1.0).sum().backward()
    assert torch.equal(output.detach(), before[0] + 1.0)
