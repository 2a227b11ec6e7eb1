"""Convolutional layers: each layer of the encoder halves height and width, the decoder mirrors it.

The layout is that of DCGAN (Radford et al. 2016, https://arxiv.org/abs/1511.06434). Group
normalisation (Wu and He 2018, https://arxiv.org/abs/1803.08494) replaces batch normalisation: it
treats every image alone, so the same image has the same code in every batch, and it has no running
means, which an average of weights would leave out.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aae.models.initial import device_of, initialised
from aae.models.mlp import linear_layers

# The encoder halves height and width until the smaller one is nearest to this, on a logarithmic
# scale.
SMALLEST = 4
# Groups of channels in a normalisation, where the number of channels is divisible by it.
GROUPS = 8


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Convolution(torch.autograd.Function):
    """A convolution whose gradients do not depend on the number of threads of a CPU.

    oneDNN splits the sum over batch and pixels in the gradient of the weights among the threads.
    One thread computes this gradient here, and all of them the rest, which is the same for any
    number of threads. The gradient of the weights is 23 % of the work of a step (with 32, 64 and
    128 channels), so that a step on two cores takes at most that much more time.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.transposed = transposed
        function = F.conv_transpose2d if transposed else F.conv2d
        return function(inputs, weight, bias, stride=2, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        inputs, weight = ctx.saved_tensors
        channels = weight.shape[1 if ctx.transposed else 0]

        def backward(*mask: bool) -> tuple[Tensor, Tensor, Tensor]:
            return torch.ops.aten.convolution_backward(
                gradient, inputs, weight, [channels], [2, 2], [1, 1], [1, 1], ctx.transposed,
                [0, 0], 1, mask,
            )  # fmt: skip

        of_inputs = backward(True, False, False)[0] if ctx.needs_input_grad[0] else None
        with _one_thread():
            _, of_weight, of_bias = backward(False, True, True)
        return of_inputs, of_weight, of_bias, None


class _Normalisation(torch.autograd.Function):
    """A group normalisation whose gradients do not depend on the number of threads of a CPU.

    torch's gradient of the inputs does. One thread takes less than a millisecond for it.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        ctx.sizes = (*inputs.shape[:2], math.prod(inputs.shape[2:]), groups)
        outputs, mean, rstd = torch.ops.aten.native_group_norm(
            inputs.contiguous(), weight, bias, *ctx.sizes, eps
        )
        ctx.save_for_backward(inputs, weight, mean, rstd)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, rstd = ctx.saved_tensors
        with _one_thread():
            gradients = torch.ops.aten.native_group_norm_backward(
                gradient.contiguous(), inputs.contiguous(), mean, rstd, weight, *ctx.sizes,
                [True, True, True],
            )  # fmt: skip
        return (*gradients, None, None)


def _by_threads(inputs: Tensor) -> bool:
    """Return whether the gradients of torch's own layers depend on the number of threads."""
    return (
        inputs.device.type == "cpu"
        and torch.get_num_threads() > 1
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class Down(nn.Conv2d):
    """A convolution that halves height and width, rounding up."""

    def __init__(self, inputs: int, outputs: int, device: torch.device) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1, device=device)

    def forward(self, images: Tensor) -> Tensor:
        """Return images [N, outputs, ⌈H/2⌉, ⌈W/2⌉]."""
        if _by_threads(images):
            return _Convolution.apply(images, self.weight, self.bias, False)
        return super().forward(images)


class Up(nn.ConvTranspose2d):
    """A transposed convolution that doubles height and width."""

    def __init__(self, inputs: int, outputs: int, device: torch.device) -> None:
        # A transposed convolution takes a third of the time of a resize and a convolution, which
        # works on four times as many pixels: with 32, 64 and 128 channels, 110 ms instead of 304
        # for a step of 100 images of 28×28 pixels, 0.42 s instead of 1.4 of 64×64. A kernel of four
        # that moves by two covers every pixel equally often; one of three would draw a chequerboard
        # (https://distill.pub/2016/deconv-checkerboard/) and is hardly faster. Memory in the order
        # channels_last was not faster.
        super().__init__(inputs, outputs, 4, stride=2, padding=1, device=device)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return images [N, outputs, 2·H, 2·W]."""
        if output_size is None and _by_threads(images):
            return _Convolution.apply(images, self.weight, self.bias, True)
        return super().forward(images, output_size)


class Norm(nn.GroupNorm):
    """A group normalisation in groups of equal size."""

    def __init__(self, channels: int, device: torch.device) -> None:
        super().__init__(math.gcd(channels, GROUPS), channels, device=device)

    def forward(self, images: Tensor) -> Tensor:
        """Return normalised images [N, C, H, W]."""
        if _by_threads(images):
            return _Normalisation.apply(images, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(images)


class Crop(nn.Module):
    """Keep the first rows and columns of images [N, C, H, W]."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        """Return images [N, C, height, width]."""
        return images[..., : self.height, : self.width]


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return height and width of the image and after every layer of the encoder.

    Example:
        >>> sizes(28, 28), sizes(48, 64)[-1]
        ([(28, 28), (14, 14), (7, 7), (4, 4)], (3, 4))
    """
    found = [(height, width)]
    for _ in range(max(1, round(math.log2(min(height, width) / SMALLEST)))):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        found.append((height, width))
    return found


def widths(image_shape: Sequence[int], channels: Sequence[int]) -> list[int]:
    """Return the channels of every layer of the encoder.

    Args:
        image_shape: channels, height and width.
        channels: channels of the first layers; the last number counts for all further layers, and
            numbers for which there is no layer count for nothing.
    """
    layers = len(sizes(*image_shape[1:])) - 1
    return [*channels, *[channels[-1]] * layers][:layers]


def conv_encoder(
    image_shape: Sequence[int],
    channels: Sequence[int],
    features: Sequence[int],
    noise: int,
    outputs: int,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return layers from images with channels of noise [N, C + noise, H, W] to [N, outputs].

    Fully connected layers, with as many units as ``features`` says, follow the convolutions.
    """
    inputs, height, width = image_shape
    inputs, device, layers = inputs + noise, device_of(generator), list[nn.Module]()
    for count in widths(image_shape, channels):
        layers += [initialised(Down(inputs, count, device), generator), *_activation(count, device)]
        inputs = count
    height, width = sizes(height, width)[-1]
    last = linear_layers([inputs * height * width, *features, outputs], generator)
    return nn.Sequential(*layers, nn.Flatten(), *last)


def conv_decoder(
    image_shape: Sequence[int],
    channels: Sequence[int],
    features: Sequence[int],
    units: int,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return layers from units [N, k] to images [N, C, H, W] from 0 to 1.

    The fully connected layers are those of the encoder in reverse order.
    """
    counts, device = [image_shape[0], *widths(image_shape, channels)], device_of(generator)
    layer_sizes, inputs = sizes(*image_shape[1:]), counts[-1]
    height, width = layer_sizes[-1]
    layers: list[nn.Module] = [
        *linear_layers([units, *reversed(features), inputs * height * width], generator),
        nn.Unflatten(1, (inputs, height, width)),
        *_activation(inputs, device),
    ]
    for count, larger in zip(reversed(counts[:-1]), reversed(layer_sizes[:-1]), strict=True):
        layers += [initialised(Up(inputs, count, device), generator)]
        if larger != (2 * height, 2 * width):
            layers += [Crop(*larger)]
        layers += _activation(count, device)
        inputs, (height, width) = count, larger
    # The last activation is a sigmoid, without a normalisation.
    return nn.Sequential(*layers[:-2], nn.Sigmoid())


def _activation(channels: int, device: torch.device) -> list[nn.Module]:
    return [Norm(channels, device), nn.ReLU()]
