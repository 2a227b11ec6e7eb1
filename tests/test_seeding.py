import torch

from aae.seeding import stream


def test_streams_differ_by_seed_and_purpose_and_repeat():
    draws = {
        (seed, purpose): torch.rand(4, generator=stream(seed, purpose)).tolist()
        for seed in (0, 1)
        for purpose in ("split", "batch order")
    }
    assert len({tuple(draw) for draw in draws.values()}) == 4
    assert torch.rand(4, generator=stream(0, "split")).tolist() == draws[0, "split"]
