"""One training on several processes, which `torchrun` starts on one or more machines.

Every process (rank) has the whole model and computes the gradients of its rows of every batch. The
ranks add up their gradients before a weight changes, with gloo on CPUs and with NCCL on GPUs.
Therefore all models stay equal, and the training is that of a single process. Every rank draws the
random numbers for the whole batch, from the same streams, so that the number of ranks does not
change them.

Without `torchrun` these functions do nothing.
"""

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Stateful(Protocol):
    """An object whose state can be returned and loaded."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any) -> None:
        """Load a state."""


def under_torchrun() -> bool:
    """Return whether `torchrun` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of this training, if there are any, until the block ends."""
    if not under_torchrun():
        yield
        return
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _end_with(parent: int) -> None:
    """End this process when `torchrun` ends; a `torchrun` that is killed cannot end it.

    Otherwise this training would continue in parallel with the next one.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def ranks() -> int:
    """Return the number of processes of this training."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_leader() -> bool:
    """Return whether this process is the one that tracks, prints and writes."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def own_rows(rows: Tensor) -> Tensor:
    """Return this rank's rows of a batch [B, …].

    A rank without any row gets the first row, which then has weight 0.
    """
    if not dist.is_initialized():
        return rows
    own = rows[dist.get_rank() :: ranks()]
    return own if len(own) else rows[:1]


def part_of(count: int) -> float:
    """Return the weight of this rank's mean in the mean over a batch of ``count`` images."""
    return len(range(dist.get_rank(), count, ranks())) / count if dist.is_initialized() else 1.0


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace float tensors by their sums over all ranks, in one message."""
    if not dist.is_initialized():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def from_leader(training: Stateful) -> None:
    """Load the state of the leader's training into this process's training."""
    if not dist.is_initialized():
        return
    buffer = io.BytesIO()
    if is_leader():
        torch.save(training.state_dict(), buffer)
    sent = [buffer.getvalue()]
    dist.broadcast_object_list(sent, src=0, device=torch.device("cpu"))
    if not is_leader():
        # Otherwise the tensors would go to the leader's GPU.
        state = torch.load(io.BytesIO(sent[0]), map_location="cpu", weights_only=True)
        training.load_state_dict(state)
