"""The initial weights of a layer."""

import math
from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def device_of(generator: torch.Generator | None) -> torch.device:
    """Return where to make a layer: without a generator its weights have a shape but no memory."""
    return torch.device("meta" if generator is None else "cpu")


def initialised(layer: Layer, generator: torch.Generator | None) -> Layer:
    """Draw weights and biases from the distribution that torch uses by default.

    Args:
        layer: changed in place. Both are uniform up to 1 / sqrt(n), for n = inputs of an output (of
            a transposed convolution: outputs of an input), as in torch.
        generator: source of the numbers; None if the weights are loaded afterwards.
    """
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
