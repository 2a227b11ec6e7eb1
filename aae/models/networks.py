"""Encoder q(z|x), decoder p(x|z) and discriminator.

The sizes are those of Makhzani et al. 2015 (https://arxiv.org/abs/1511.05644), appendix A: fully
connected layers with ReLU, linear codes, sigmoid pixels.

All three may see codes in units of the prior: with its mean m and standard deviation s, the encoder
emits z = m + s·e(x), and decoder and discriminator begin with (z − m) / s. Their layers then see
values of size one for every prior, and one learning rate suits all priors.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

# Largest number of images or codes in one pass outside of a training, which bounds the memory.
CHUNK = 2048


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


class _Standardised(nn.Module):
    """A network that sees codes in units of a mean [d] and a scale [d]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, layers: nn.Sequential, latent_dim: int) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))

    def set_units(self, mean: Tensor, scale: Tensor) -> None:
        """Use codes in units of ``mean`` [d] and ``scale`` [d] from now on."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)


class Encoder(_Standardised):
    """The encoder q(z|x), deterministic: images [N, C, H, W] to codes [N, d].

    Args:
        image_shape: channels, height and width.
        hidden: units of the hidden layers.
        latent_dim: dimensions d of a code.
        generator: source of the initial weights; None if they are loaded afterwards.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        hidden: Sequence[int],
        latent_dim: int,
        generator: torch.Generator | None,
    ) -> None:
        sizes = [math.prod(image_shape), *hidden, latent_dim]
        super().__init__(_layers(sizes, generator), latent_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Return the codes [N, d] of images [N, C, H, W] with values from 0 to 1."""
        return self.mean + self.scale * self.layers(images.flatten(1))


class Decoder(_Standardised):
    """The decoder p(x|z): codes [N, d] to images [N, C, H, W].

    Args:
        image_shape: channels, height and width.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse order.
        latent_dim: dimensions d of a code.
        generator: source of the initial weights; None if they are loaded afterwards.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        hidden: Sequence[int],
        latent_dim: int,
        generator: torch.Generator | None,
    ) -> None:
        sizes = [latent_dim, *reversed(hidden), math.prod(image_shape)]
        super().__init__(_layers(sizes, generator), latent_dim)
        self.image_shape = tuple(image_shape)

    def forward(self, codes: Tensor) -> Tensor:
        """Return images [N, C, H, W] with values from 0 to 1 for codes [N, d]."""
        standardised = (codes - self.mean) / self.scale
        return self.layers(standardised).sigmoid().unflatten(1, self.image_shape)


class Discriminator(_Standardised):
    """The discriminator, which tells prior samples from codes of images, both [N, d].

    Args:
        hidden: units of the hidden layers.
        latent_dim: dimensions d of a code.
        generator: source of the initial weights; None if they are loaded afterwards.
    """

    def __init__(
        self, hidden: Sequence[int], latent_dim: int, generator: torch.Generator | None
    ) -> None:
        super().__init__(_layers([latent_dim, *hidden, 1], generator), latent_dim)

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits [N] of codes [N, d], positive for a prior sample."""
        return self.layers((codes - self.mean) / self.scale).squeeze(1)


@torch.no_grad()
def rescale_codes(encoder: Encoder, decoder: Decoder, shift: Tensor, scale: Tensor) -> None:
    """Make the encoder emit (z − shift) / scale instead of z, and make the decoder invert that.

    This is exact: the affine map goes into the encoder's last and the decoder's first layer, and
    reconstructions stay the same up to rounding.

    Args:
        encoder: changed in place.
        decoder: changed in place.
        shift: [d].
        scale: [d], positive.
    """
    last, first = encoder.layers[-1], decoder.layers[0]
    assert isinstance(last, nn.Linear)
    assert isinstance(first, nn.Linear)
    last.weight.div_(scale[:, None])
    last.bias.sub_(shift).div_(scale)
    first.bias.add_(first.weight @ shift)
    first.weight.mul_(scale)


def pixels(images: Tensor) -> Tensor:
    """Convert uint8 images into float32 values from 0 (black) to 1 (white)."""
    return images / 255


@torch.no_grad()
def apply(network: Callable[[Tensor], Tensor], inputs: Tensor, device: torch.device) -> Tensor:
    """Return a network's outputs for any number of inputs, without gradients, in bounded memory.

    Args:
        network: maps tensors [n, …] to tensors [n, …].
        inputs: [N, …]; uint8 images are converted into values from 0 to 1.
        device: device of the network.

    Returns:
        The outputs, on the device of the inputs.
    """
    outputs = torch.empty(0)
    for start in range(0, len(inputs), CHUNK):
        x = inputs[start : start + CHUNK].to(device)
        found = network(pixels(x) if x.dtype == torch.uint8 else x)
        if start == 0:
            # All chunks share one output tensor. Small tensors between large temporary ones would
            # fragment the memory, which glibc then neither reuses nor returns to the system.
            outputs = found.new_empty(len(inputs), *found.shape[1:])
        outputs[start : start + CHUNK] = found
    return outputs.to(inputs.device)
