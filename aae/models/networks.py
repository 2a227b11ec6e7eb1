"""Encoder q(z|x), decoder p(x|z) and discriminator.

The sizes are those of Makhzani et al. 2015 (https://arxiv.org/abs/1511.05644), appendix A: fully
connected layers with ReLU, linear codes, sigmoid pixels. All three networks see codes in the units
of :mod:`aae.priors.units`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from aae.params import Posterior

# Largest number of images or codes in one pass outside of a training, which bounds the memory.
CHUNK = 2048
# Standard deviation with which a learnt posterior begins, in units.
FIRST_STD = 0.25


def _layers(sizes: Sequence[int], generator: torch.Generator | None) -> nn.Sequential:
    """Return linear layers with ReLU in between, initialised as torch does, from ``generator``.

    Without a generator the weights have a shape but no memory until a file is loaded into them.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs, device="meta" if generator is None else "cpu")
        bound = 1 / math.sqrt(inputs)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Encoder(nn.Module):
    """The encoder q(z|x): images [N, C, H, W] to units [N, k].

    Section 2.1 of the paper has three kinds of posteriors. A deterministic encoder emits the units.
    A Gaussian one emits their mean and, unless the standard deviation is fixed, the logarithm of
    their variance. A universal approximator has noise as an additional input; its mean is, by
    convention, its output for noise 0.

    Args:
        image_shape: channels, height and width.
        hidden: units of the hidden layers.
        dimensions: dimensions k of the units.
        posterior: the kind of posterior.
        generator: source of the initial weights; None if they are loaded afterwards.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        hidden: Sequence[int],
        dimensions: int,
        posterior: Posterior,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.dimensions, self.posterior = dimensions, posterior
        inputs = math.prod(image_shape) + dimensions * (posterior.kind == "universal")
        outputs = dimensions * (1 + posterior.is_learnt)
        self.layers = _layers([inputs, *hidden, outputs], generator)
        if posterior.is_learnt:  # begin with the same small variance for all images
            last = self.layers[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight[dimensions:].zero_()
                last.bias[dimensions:].fill_(
                    math.log(max(FIRST_STD**2 - posterior.min_std**2, 1e-4))
                )

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return a sample of the posterior, or its mean if there is no noise.

        Args:
            images: images [N, C, H, W] with values from 0 to 1.
            noise: samples [N, k] of N(0, I).
        """
        inputs, posterior = images.flatten(1), self.posterior
        if posterior.kind == "universal":
            extra = inputs.new_zeros(len(inputs), self.dimensions) if noise is None else noise
            return self.layers(torch.cat([inputs, extra.to(inputs.dtype)], dim=1))
        mean, *log_variance = self.layers(inputs).split(self.dimensions, dim=1)
        if noise is None or posterior.kind == "deterministic":
            return mean
        if posterior.std is not None:
            return mean + posterior.std * noise
        return mean + (log_variance[0].exp() + posterior.min_std**2).sqrt() * noise


class Decoder(nn.Module):
    """The decoder p(x|z): units [N, k] to images [N, C, H, W].

    Args:
        image_shape: channels, height and width.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse order.
        dimensions: dimensions k of the units.
        generator: source of the initial weights; None if they are loaded afterwards.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        hidden: Sequence[int],
        dimensions: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.layers = _layers([dimensions, *reversed(hidden), math.prod(image_shape)], generator)
        self.image_shape = tuple(image_shape)

    def forward(self, units: Tensor) -> Tensor:
        """Return images [N, C, H, W] with values from 0 to 1."""
        return self.layers(units).sigmoid().unflatten(1, self.image_shape)


class Discriminator(nn.Module):
    """The discriminator, which tells prior samples from codes of images, both in units [N, k].

    Args:
        hidden: units of the hidden layers.
        dimensions: dimensions k of the units.
        generator: source of the initial weights; None if they are loaded afterwards.
    """

    def __init__(
        self, hidden: Sequence[int], dimensions: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.layers = _layers([dimensions, *hidden, 1], generator)

    def forward(self, units: Tensor) -> Tensor:
        """Return logits [N], positive for a prior sample."""
        return self.layers(units).squeeze(1)


def pixels(images: Tensor) -> Tensor:
    """Convert uint8 images into float32 values from 0 (black) to 1 (white)."""
    return images / 255


@torch.no_grad()
def apply(function: Callable[..., Tensor], device: torch.device, *inputs: Tensor) -> Tensor:
    """Return a function of any number of images or codes, without gradients, in bounded memory.

    Args:
        function: maps tensors [n, …] on ``device`` to a tensor [n, …].
        device: device of the computation.
        inputs: tensors [N, …]; uint8 images are converted into values from 0 to 1.

    Returns:
        The outputs [N, …], on the device of the inputs.
    """
    outputs = torch.empty(0)
    for start in range(0, len(inputs[0]), CHUNK):
        parts = [tensor[start : start + CHUNK].to(device) for tensor in inputs]
        found = function(*(pixels(x) if x.dtype == torch.uint8 else x for x in parts))
        if start == 0:
            # All chunks share one output tensor. Small tensors between large temporary ones would
            # fragment the memory, which glibc then neither reuses nor returns to the system.
            outputs = found.new_empty(len(inputs[0]), *found.shape[1:])
        outputs[start : start + CHUNK] = found
    return outputs.to(inputs[0].device)
