"""The initial weights of an adversarial autoencoder, and the final mean of its codes in units."""

import copy

import torch
from torch import Tensor, nn

from aae.errors import ParameterError
from aae.models import Model
from aae.models.networks import apply, chunk
from aae.priors import Prior


def initialise(model: Model, prior: Prior, autoencoder: Model, images: Tensor) -> None:
    """Set the initial weights of an adversarial autoencoder to those of an autoencoder.

    Encoder and decoder become those of the trained autoencoder, with units that, together with the
    fixed noise of the posterior, have mean 0 and covariance I, as the prior has. This does not
    change the reconstructions. A network that has more inputs or outputs than the autoencoder's
    keeps its own weights for these: the noise of a universal posterior, which is the last of the
    inputs, and a learnt variance.

    Args:
        model: changed in place.
        prior: the distribution that the codes should follow.
        autoencoder: the trained autoencoder.
        images: its uint8 training images [N, C, H, W].

    Raises:
        ParameterError: if a user's own networks have other weights with this posterior than those
            of the autoencoder.
    """
    trained = copy.deepcopy(autoencoder)
    whiten(trained, images, model.units.dimensions, model.architecture.posterior.fixed_variance)
    if model.architecture.units == "codes":
        map_codes(trained, torch.diag(prior.scale), prior.mean)
    for part in ("encoder", "decoder"):
        weights, started = getattr(trained, part).state_dict(), getattr(model, part).state_dict()
        for name in weights.keys() | started.keys():
            old = weights[name].shape if name in weights else ()
            new = started[name].shape if name in started else ()
            if len(old) != len(new) or any(a > b for a, b in zip(old, new, strict=True)):
                raise ParameterError(
                    f"train_aae.init: 'ae' needs the weights of the autoencoder's {part}, whose "
                    f"{name} has shape {tuple(old)} and not {tuple(new)}; use 'scratch', or change "
                    f"the function {model.architecture.network.kind}"
                )
        for name, tensor in started.items():
            tensor[tuple(map(slice, weights[name].shape))].copy_(weights[name])


@torch.no_grad()
def centre(model: Model, images: Tensor) -> None:
    """Give the units of a trained model mean 0 on the training images, as the prior has.

    The two opponents of a training push the mean around 0, a little off at any moment. The
    correction changes no reconstruction. (The covariance is not corrected: training images have
    slightly wider codes than images that the model has not seen.)

    Args:
        model: changed in place, if it has Gaussian units, its encoder emits means, and the classes
            of images have no parts of the prior.
        images: uint8 training images [N, C, H, W].
    """
    a = model.architecture
    universal = a.posterior.kind == "universal"  # its noise may have another mean
    # With a part of the prior for each class, the mean depends on how frequent the classes are.
    if a.units != "gaussian" or universal or a.categories.to_discriminator:
        return
    size = chunk(model.architecture.image_shape)
    mean = apply(model.encoder, model.device, images, size=size).mean(0).to(model.device)
    last, first = _at_the_codes(model)
    last.bias[: len(mean)].sub_(mean)
    first.bias.add_(first.weight[:, : len(mean)] @ mean)


def whiten(model: Model, images: Tensor, dimensions: int, fixed_variance: float) -> None:
    """Give the units of images mean 0 and, with noise, covariance I; reconstructions stay the same.

    Args:
        model: changed in place.
        images: uint8 images [N, C, H, W].
        dimensions: number of dimensions k of the new units, at most as many as before; fewer are
            the leading principal components.
        fixed_variance: the part of the variance that noise adds to the output of the encoder.
    """
    units = model.units.to_units(model.encode(images)).double()
    covariance = torch.atleast_2d(torch.cov(units.T))
    variances, axes = torch.linalg.eigh(covariance)
    # A direction that the encoder does not use has no variance to scale.
    scales = torch.where(variances > 1e-6 * variances[-1], variances, 1).rsqrt()
    matrix = scales[:, None] * axes.T
    # ZCA whitening changes the units least; to drop dimensions, PCA whitening is needed.
    matrix = axes @ matrix if dimensions == len(axes) else matrix.flip(0)[:dimensions]
    matrix = matrix * (1 - fixed_variance) ** 0.5
    offset = -matrix @ units.mean(0)
    if dimensions < len(axes):  # a direction that is dropped becomes 0, which should be its mean
        map_codes(model, torch.eye(len(axes)), -units.mean(0))
        offset = torch.zeros(dimensions)
    map_codes(model, matrix, offset)


@torch.no_grad()
def map_codes(model: Model, matrix: Tensor, offset: Tensor) -> None:
    """Make the encoder emit A·h + b instead of h, and make the decoder invert that.

    This is exact: the map goes into the encoder's last and the decoder's first layer, and
    reconstructions stay the same up to rounding, unless A drops dimensions.

    Args:
        model: changed in place; the encoder emits units only.
        matrix: A [k, d], of rank k.
        offset: b [k].
    """
    last, first = _at_the_codes(model)
    matrix, offset = matrix.double().to(model.device), offset.double().to(model.device)
    inverse = torch.linalg.pinv(matrix)

    def changed(values: Tensor) -> nn.Parameter:
        return nn.Parameter(values.float())

    last.weight = changed(matrix @ last.weight.double())
    last.bias = changed(matrix @ last.bias.double() + offset)
    weight = first.weight.double() @ inverse
    first.bias = changed(first.bias.double() - weight @ offset)
    first.weight = changed(weight)


def _at_the_codes(model: Model) -> tuple[nn.Linear, nn.Linear]:
    """Return the encoder's last and the decoder's first layer."""
    last, first = model.encoder.layers[-1], model.decoder.layers[0]
    assert isinstance(last, nn.Linear)
    assert isinstance(first, nn.Linear)
    return last, first
