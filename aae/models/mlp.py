"""Fully connected layers with ReLU.

The sizes of the paper's networks are in Makhzani et al. 2015 (https://arxiv.org/abs/1511.05644),
appendix A.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from aae.models.initial import device_of, initialised


def linear_layers(sizes: Sequence[int], generator: torch.Generator | None) -> nn.Sequential:
    """Return linear layers with ReLU in between.

    Args:
        sizes: numbers of inputs, of hidden units, and of outputs.
        generator: source of the initial weights; None if they are loaded afterwards.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs, device=device_of(generator))
        layers += [initialised(linear, generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def mlp_encoder(
    image_shape: Sequence[int],
    hidden: Sequence[int],
    noise: int,
    outputs: int,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return layers from images and noise [N, C·H·W + noise] to [N, outputs]."""
    return linear_layers([math.prod(image_shape) + noise, *hidden, outputs], generator)


def mlp_decoder(
    image_shape: Sequence[int],
    hidden: Sequence[int],
    units: int,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return layers from units [N, k] to pixels [N, C·H·W] from 0 to 1.

    The hidden layers are those of the encoder in reverse order.
    """
    layers = linear_layers([units, *reversed(hidden), math.prod(image_shape)], generator)
    return layers.append(nn.Sigmoid())
