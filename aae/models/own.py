"""Networks that a function of the user makes; docs/networks.md describes it."""

import copy
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aae.errors import ParameterError
from aae.models.initial import initialised

# Images or units in the batch on which new networks are tried.
TRIED = 2


def own_function(name: str) -> Callable[..., Any]:
    """Import a function by its dotted name.

    Raises:
        ParameterError: if the import fails, or there is no function of this name.
    """
    module, _, attribute = name.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module is the user's, and can raise anything
        raise _wrong(name, f"cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise _wrong(name, f"is {type(function).__name__}, not a function")
    return function


def own_layers(
    name: str,
    image_shape: Sequence[int],
    noise: int,
    outputs: int,
    units: int,
    generator: torch.Generator | None,
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the user's networks with a linear layer on either side of the codes.

    A linear layer from the encoder's features to its outputs, and one of the units (at first the
    identity) before the decoder: a map of the codes goes into these two (see
    aae/training/warm_start.py), whatever the user's layers are.

    Args:
        name: dotted name of the function.
        image_shape: channels C, height and width.
        noise: additional channels with noise that the encoder sees.
        outputs: outputs of the encoder.
        units: units k, the inputs of the decoder.
        generator: source of the initial weights; None if they are loaded afterwards.

    Returns:
        The layers of the encoder, from [N, C + noise, H, W] to [N, outputs], and those of the
        decoder, from [N, k] to [N, C, H, W].

    Raises:
        ParameterError: if the function cannot be imported or raises an error, or if its networks do
            not work, see :func:`check_networks`.
    """
    function = own_function(name)
    own = torch.Generator().manual_seed(0) if generator is None else generator
    with torch.random.fork_rng(devices=[]):
        # Layers of torch draw their initial weights from torch's own generator.
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=own)))
        try:
            networks = function(tuple(image_shape), noise, units)
        except Exception as error:  # the function is the user's, and can raise anything
            raise _wrong(name, f"fails: {type(error).__name__}: {error}") from error
    if (
        not isinstance(networks, tuple | list)
        or len(networks) != 2
        or not all(isinstance(network, nn.Module) for network in networks)
    ):
        raise _wrong(name, "must return two torch.nn.Module: encoder and decoder")
    encoder, decoder = networks
    try:
        # A network that keeps an output could not be copied after a pass, as a training does.
        tried = copy.deepcopy((encoder, decoder))
    except Exception as error:  # the networks are the user's, and can raise anything
        raise _wrong(name, f"cannot be copied: {type(error).__name__}: {error}") from error
    features = check_networks(name, *tried, image_shape, noise, units)
    last, first = nn.Linear(features, outputs), nn.Linear(units, units)
    with torch.no_grad():
        first.weight.copy_(torch.eye(units))
        first.bias.zero_()
    return nn.Sequential(encoder, initialised(last, own)), nn.Sequential(first, decoder)


def check_networks(
    name: str,
    encoder: nn.Module,
    decoder: nn.Module,
    image_shape: Sequence[int],
    noise: int,
    units: int,
) -> int:
    """Try a user's networks on one batch; return the number of the encoder's features.

    Raises:
        ParameterError: if an output has another shape or is not finite or not the same each time,
            if an image has values outside of 0 to 1, if the gradient does not reach every weight,
            or if there are tensors that are not weights in float32, each of one network alone.
    """
    channels, height, width = image_shape
    source = torch.Generator().manual_seed(0)
    images = torch.rand(TRIED, channels + noise, height, width, generator=source)
    codes = torch.randn(TRIED, units, generator=source)
    features = _tried(name, "encoder", encoder, images)
    if features.ndim != 2 or len(features) != TRIED or features.shape[1] == 0:
        raise _wrong(
            name, f"its encoder turns images [N, {channels + noise}, {height}, {width}] into "
            f"{_shape(features)}; [N, number of features] is expected",
        )  # fmt: skip
    decoded = _tried(name, "decoder", decoder, codes)
    if decoded.shape != (TRIED, *image_shape):
        raise _wrong(
            name, f"its decoder turns units [N, {units}] into {_shape(decoded)}; "
            f"[N, {channels}, {height}, {width}] is expected",
        )  # fmt: skip
    low, high = decoded.min().item(), decoded.max().item()
    if low < 0 or high > 1:
        raise _wrong(
            name, f"its decoder returns values from {low:.3g} to {high:.3g}; 0 to 1 is expected: "
            "end with torch.nn.Sigmoid()"
        )  # fmt: skip
    if {*map(id, encoder.parameters())} & {*map(id, decoder.parameters())}:
        raise _wrong(name, "encoder and decoder share weights; each needs weights of its own")
    return features.shape[1]


def _tried(name: str, part: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs of a network, after all checks that both networks have to pass."""
    weights = dict(network.named_parameters())
    for key, tensor in network.state_dict().items():
        if key not in weights:
            raise _wrong(
                name, f"its {part} has {key}, which is no weight of one layer alone, such as the "
                "running mean of BatchNorm; use torch.nn.GroupNorm, or buffers with "
                "persistent=False"
            )  # fmt: skip
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise _wrong(
                name, f"its {part} has {key} in {tensor.dtype} on {tensor.device}; torch.float32 "
                "on the CPU is expected"
            )  # fmt: skip
    try:
        with torch.random.fork_rng(devices=[]):
            outputs, again = network(inputs), network(inputs)
            same = torch.equal(outputs, again)
            reached = torch.autograd.grad(
                outputs.sum(), list(weights.values()), allow_unused=True
            ) if weights else ()  # fmt: skip
    except Exception as error:  # the network is the user's, and can raise anything
        raise _wrong(name, f"its {part} fails: {type(error).__name__}: {error}") from error
    if not torch.isfinite(outputs).all():
        raise _wrong(name, f"its {part} returns values that are not finite")
    if not same:
        raise _wrong(name, f"its {part} returns other values each time, as dropout does")
    for key, gradient in zip(weights, reached, strict=True):
        if gradient is None:
            raise _wrong(name, f"its {part} does not use the weight {key}")
    return outputs


def _shape(outputs: Tensor) -> str:
    first, *rest = outputs.shape or (0,)
    return f"[{', '.join(map(str, ['N' if first == TRIED else first, *rest]))}]"


def _wrong(name: str, problem: str) -> ParameterError:
    return ParameterError(f"network.kind: {name}: {problem}")
