"""Independent streams of random numbers, all derived from the one seed of params.yaml."""

import hashlib

import torch


def stream(seed: int, purpose: str) -> torch.Generator:
    """Return a separate generator for one purpose ("initial weights", "batch order", …).

    Streams of different purposes are independent, so that drawing more numbers for one purpose
    changes nothing for another.

    Args:
        seed: the seed of params.yaml.
        purpose: the purpose of the numbers; any text.

    Example:
        >>> first, again = (torch.rand(3, generator=stream(0, "split")) for _ in range(2))
        >>> torch.equal(first, again)
        True
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
