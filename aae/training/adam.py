"""Adam on some weights, by torch's kernel.

Without `torch.optim.Adam`, whose first step imports torch's compiler: more than a second for every
stage that trains something.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

EPSILON = 1e-8


def cosine(progress: float) -> float:
    """Return the share of a learning rate that is left: half a cosine, 1 at 0, down to 0 at 1.

    Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, eq. 5, without restarts.
    """
    return (1 + math.cos(math.pi * progress)) / 2


class Adam:
    """Adam, Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1.

    Args:
        weights: what it may change.
        rate: the learning rate to start from.
        betas: decay of the mean gradient and of the mean squared gradient.

    Attributes:
        initial_rate: the learning rate at the start.
        rate: that of the next step; :meth:`set_rate` changes it.
        state: moments and number of steps of each weight, by the names that torch gives them.
    """

    def __init__(
        self, weights: Iterable[Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.weights = list(weights)
        device = self.weights[0].device
        # On a GPU a tensor: a recorded step (aae/training/cuda_graph.py) reads it anew each time.
        self.rate: float | Tensor = (
            torch.full((), rate, device=device) if device.type == "cuda" else rate
        )
        self.initial_rate = rate
        self.betas = betas
        self.state = {
            "step": [torch.zeros((), device=weight.device) for weight in self.weights],
            "exp_avg": [torch.zeros_like(weight) for weight in self.weights],
            "exp_avg_sq": [torch.zeros_like(weight) for weight in self.weights],
        }

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            self.rate = rate

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for weight in self.weights:
            weight.grad = None

    def gradients(self) -> list[Tensor]:
        """Return the gradients that a backward pass has left at the weights, not copies."""
        # Of `backward` and not of `torch.autograd.grad`: torch's kernel takes it that a gradient
        # lies in memory as its weight does, and `backward` sees to that.
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        assert len(gradients) == len(self.weights), "the loss does not depend on every weight"
        return gradients

    @torch.no_grad()
    def step(self) -> None:
        """Take a step against the gradients."""
        adam(
            self.weights,
            self.gradients(),
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
            [],
            self.state["step"],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.rate,
            weight_decay=0,
            eps=EPSILON,
            maximize=False,
        )
