"""One training on several processes, as `torchrun` starts them on one machine or many.

Every process (rank) has the whole model and takes its rows of every batch. What ranks compute of
a gradient is added up before a weight moves, so that all models stay equal and the training is the
one that a single process would do. Random numbers are drawn for the whole batch on every rank, from
the same streams: which rows are whose never changes what is drawn.

Without `torchrun` all of this does nothing.
"""

import logging
import os
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from aae.errors import ParameterError


def under_torchrun() -> bool:
    """Return whether `torchrun` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of this job, if there are any, until the block ends."""
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
    """End this process with `torchrun`, which cannot see to that if it is killed.

    Else the training would go on beside the one that is started in its place.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def check_launcher(launcher: str) -> None:
    """Refuse options that `torchrun` would not take, before anything has run.

    Raises:
        ParameterError: names them.
    """
    if not launcher.startswith("torchrun"):
        return
    from torch.distributed import run

    def refuse(message: str) -> NoReturn:
        raise ValueError(message)

    run.logger.setLevel(logging.ERROR)  # it would tell how many threads there will be
    parser = run.get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    try:
        _, *options = shlex.split(launcher)
        config, _, _ = run.config_from_args(parser.parse_args([*options, "stage"]))
        if config.nproc_per_node < 1:
            refuse(f"{config.nproc_per_node} processes")
    except (Exception, SystemExit) as error:  # it refuses in many ways; --help ends it
        raise ParameterError(f"launcher: {launcher!r} is refused by torchrun: {error}") from error


def ranks() -> int:
    """Return how many processes train."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_leader() -> bool:
    """Return whether this process is the one that records, shows and writes."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def share(rows: Tensor) -> Tensor:
    """Return this rank's part of the rows of a batch [B, …].

    A rank for which there is none takes the first row, which then counts for nothing.
    """
    if not dist.is_initialized():
        return rows
    own = rows[dist.get_rank() :: ranks()]
    return own if len(own) else rows[:1]


def part_of(count: int) -> float:
    """Return what a mean over this rank's part counts for in the mean over a batch.

    Args:
        count: images in the batch.
    """
    return len(range(dist.get_rank(), count, ranks())) / count if dist.is_initialized() else 1.0


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace float tensors by their sums over all ranks, in one message."""
    if not dist.is_initialized():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def from_leader(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by the leader's, whose shapes and types they have."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)
