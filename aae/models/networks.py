"""Encoder q(z|x), decoder p(x|z) and discriminator.

As in Makhzani et al. 2015 (https://arxiv.org/abs/1511.05644), codes are linear and pixels sigmoid.
All three networks see codes in the units of :mod:`aae.priors.units`. The layers of encoder and
decoder are those of a kind in :mod:`aae.models.kinds`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from aae.models.mlp import linear_layers
from aae.params import Posterior

# Largest number of images or codes in one pass outside of a training, which bounds the memory.
CHUNK = 2048
# Largest number of values of these images: the first layer of a convolutional network returns up to
# eight times as many, 128 MiB.
VALUES = 2**22
# Standard deviation with which a learnt posterior begins, in units.
FIRST_STD = 0.25


class Encoder(nn.Module):
    """The encoder q(z|x): images [N, C, H, W] to units [N, k].

    Section 2.1 of the paper has three kinds of posteriors. A deterministic encoder emits the units.
    A Gaussian one emits their mean and, unless the standard deviation is fixed, the logarithm of
    their variance. A universal approximator has noise as an additional input; its mean is, by
    convention, its output for noise 0.

    An encoder with categories also emits q(y|x), the probabilities of K categories (section 5).

    Args:
        layers: layers from images [N, C, H, W] to outputs [N, k or 2·k, and K], the last of
            them linear. Noise is appended to the pixels [N, C·H·W] or, as constant channels, to the
            images.
        dimensions: dimensions k of the units.
        posterior: the kind of posterior.
        flat: whether the layers take pixels [N, C·H·W] instead of images.
        categories: number K of categories; 0 if the encoder emits none.
    """

    def __init__(
        self,
        layers: nn.Sequential,
        dimensions: int,
        posterior: Posterior,
        flat: bool,
        categories: int = 0,
    ) -> None:
        super().__init__()
        self.layers, self.dimensions, self.posterior = layers, dimensions, posterior
        self.flat, self.categories = flat, categories
        if posterior.is_learnt:  # begin with the same small variance for all images
            last = self.layers[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight[dimensions : 2 * dimensions].zero_()
                last.bias[dimensions : 2 * dimensions].fill_(
                    math.log(max(FIRST_STD**2 - posterior.min_std**2, 1e-4))
                )

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return a sample of the posterior, or its mean if there is no noise.

        Args:
            images: images [N, C, H, W] with values from 0 to 1.
            noise: samples [N, k] of N(0, I).
        """
        return self.heads(images, noise)[0]

    def heads(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what :meth:`forward` returns, and the logits [N, K] of the categories."""
        inputs, posterior = images.flatten(1) if self.flat else images, self.posterior
        if posterior.kind == "universal":
            extra = inputs.new_zeros(len(inputs), self.dimensions) if noise is None else noise
            if not self.flat:  # a constant channel for each number
                extra = extra[:, :, None, None].expand(-1, -1, *images.shape[2:])
            inputs = torch.cat([inputs, extra.to(inputs.dtype)], dim=1)
        k, outputs = self.dimensions, self.layers(inputs)
        mean, log_variance, logits = outputs.tensor_split(
            [k, outputs.shape[1] - self.categories], 1
        )
        if noise is None or posterior.kind != "gaussian":
            return mean, logits
        if posterior.std is not None:
            return mean + posterior.std * noise, logits
        return mean + (log_variance.exp() + posterior.min_std**2).sqrt() * noise, logits


class Decoder(nn.Module):
    """The decoder p(x|z), or p(x|z, y) with categories: units [N, k] to images [N, C, H, W].

    Args:
        layers: layers from units, followed by categories if there are no places, to images, or to
            their pixels [N, C·H·W], from 0 to 1; the first of them is linear.
        image_shape: channels, height and width.
        places: maps categories [N, K] to their places [N, k], which are added to the units.
    """

    def __init__(
        self, layers: nn.Sequential, image_shape: Sequence[int], places: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.layers, self.image_shape, self.places = layers, tuple(image_shape), places

    def forward(self, units: Tensor, categories: Tensor | None = None) -> Tensor:
        """Return images [N, C, H, W] with values from 0 to 1.

        Args:
            units: units [N, k].
            categories: probabilities [N, K] of the categories, if the decoder takes them.
        """
        if self.places is not None:
            units = units + self.places(categories)
        elif categories is not None:
            units = torch.cat([units, categories], dim=1)
        return self.layers(units).reshape(len(units), *self.image_shape)


class Discriminator(nn.Module):
    """The discriminator, which tells prior samples from codes of images, both in units [N, k].

    Args:
        hidden: units of the hidden layers.
        dimensions: dimensions k of the units, and numbers that say of which class an image is.
        generator: source of the initial weights; None if they are loaded afterwards.
    """

    def __init__(
        self, hidden: Sequence[int], dimensions: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.layers = linear_layers([dimensions, *hidden, 1], generator)

    def forward(self, units: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return logits [N], positive for a prior sample.

        Args:
            units: units [N, k].
            classes: the class of each image, or "unknown", one-hot [N, K + 1]; for a discriminator
                that is told them.
        """
        inputs = units if classes is None else torch.cat([units, classes], dim=1)
        return self.layers(inputs).squeeze(1)


def pixels(images: Tensor) -> Tensor:
    """Convert uint8 images into float32 values from 0 (black) to 1 (white)."""
    return images / 255


def chunk(image_shape: Sequence[int]) -> int:
    """Return the number of images of a shape (or of their codes) in one pass without gradients."""
    return max(1, min(CHUNK, VALUES // math.prod(image_shape)))


@torch.no_grad()
def apply(
    function: Callable[..., Tensor],
    device: torch.device,
    *inputs: Tensor,
    size: int = CHUNK,
) -> Tensor:
    """Return a function of any number of images or codes, without gradients, in bounded memory.

    Args:
        function: maps tensors [n, …] on ``device`` to a tensor [n, …].
        device: device of the computation.
        inputs: tensors [N, …]; uint8 images are converted into values from 0 to 1.
        size: largest number n of images or codes in one pass.

    Returns:
        The outputs [N, …], on the device of the inputs.
    """
    outputs = torch.empty(0)
    for start in range(0, len(inputs[0]), size):
        parts = [tensor[start : start + size].to(device) for tensor in inputs]
        found = function(*(pixels(x) if x.dtype == torch.uint8 else x for x in parts))
        if start == 0:
            # All chunks share one output tensor. Small tensors between large temporary ones would
            # fragment the memory, which glibc then neither reuses nor returns to the system.
            outputs = found.new_empty(len(inputs[0]), *found.shape[1:])
        outputs[start : start + size] = found
    return outputs.to(inputs[0].device)
