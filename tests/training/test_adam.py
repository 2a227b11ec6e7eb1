import pytest
import torch
from support import ROOT, run

from aae.training.adam import Adam, cosine
from aae.seeding import stream


def test_it_steps_as_torchs_own_class_does():
    generator = stream(0, "weights")
    start = [torch.randn(30, 20, generator=generator), torch.randn(20, generator=generator)]
    ours, theirs = ([x.clone().requires_grad_() for x in start] for _ in range(2))
    own = Adam(ours, 1e-2, (0.5, 0.99))
    reference = torch.optim.Adam(theirs, lr=1e-2, betas=(0.5, 0.99), fused=True)
    for step in range(20):
        inputs = torch.randn(8, 30, generator=generator)
        for optimiser, (weight, bias) in ((own, ours), (reference, theirs)):
            optimiser.zero_grad()
            (inputs @ weight + bias).square().mean().backward()
        reference.param_groups[0]["lr"] = 1e-2 * cosine(step / 20)
        own.set_rate(1e-2 * cosine(step / 20))
        own.step()
        reference.step()
    for mine, its, before in zip(ours, theirs, start, strict=True):
        assert torch.equal(mine, its)
        assert not torch.equal(mine, before)


def test_a_step_does_not_import_torchs_compiler():
    """It would take more than a second of every stage that trains."""
    program = """
import sys, torch
from aae.training.adam import Adam
weight = torch.ones(2, requires_grad=True)
optimiser = Adam([weight], 0.1)
weight.sum().backward()
optimiser.step()
print(bool((weight < 1).all()), "torch._dynamo" in sys.modules)
"""
    printed = run(["python", "-c", program], ROOT).stdout
    assert printed == "True False\n"


def test_the_rate_falls_along_half_a_cosine():
    assert [cosine(x) for x in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])
