"""The kinds of networks: fully connected, convolutional, and a user's own."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from torch import nn

from aae.errors import ParameterError
from aae.models.conv import conv_decoder, conv_encoder
from aae.models.mlp import mlp_decoder, mlp_encoder
from aae.models.own import own_function, own_layers
from aae.params import OWN_KIND, Layers, OptionalLayers, Params
from aae.priors import chosen_prior
from aae.priors.units import gaussian_units
from aae.seeding import stream


class _Kind(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mlp(_Kind):
    """Fully connected layers; ``hidden`` are the units of the encoder's hidden layers."""

    kind: Literal["mlp"] = "mlp"
    hidden: Layers


class Conv(_Kind):
    """Convolutions; ``channels`` are those of the encoder's first layers.

    ``features`` are the units of fully connected layers between the convolutions and the codes.
    Model files that do not name any have none.
    """

    kind: Literal["conv"] = "conv"
    channels: Layers
    features: OptionalLayers = ()


class Own(_Kind):
    """A user's own networks; ``kind`` is the dotted name of the function that makes them."""

    kind: Annotated[str, Field(pattern=OWN_KIND)]


def _tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in ("mlp", "conv") else "own"


Kind = Annotated[
    Annotated[Mlp, Tag("mlp")] | Annotated[Conv, Tag("conv")] | Annotated[Own, Tag("own")],
    Discriminator(_tag),
]


def chosen_kind(
    kind: str, hidden: Sequence[int], channels: Sequence[int], features: Sequence[int]
) -> Mlp | Conv | Own:
    """Return the kind of networks that the section ``network`` of params.yaml chooses."""
    match kind:
        case "mlp":
            return Mlp(hidden=tuple(hidden))
        case "conv":
            return Conv(channels=tuple(channels), features=tuple(features))
        case name:
            return Own(kind=name)


def check_kind(params: Params) -> None:
    """Check the networks as far as that is possible before the images are known.

    Raises:
        ParameterError: if there is no such function of a user; if its networks, whose layers cannot
            change, would need fewer units than those of the autoencoder that they start from.
    """
    network = params.network
    kind = chosen_kind(network.kind, network.hidden, network.channels, network.features)
    if not isinstance(kind, Own):
        return
    own_function(network.kind)
    units = gaussian_units(chosen_prior(params), fitted=False).dimensions
    if params.starts_from_autoencoder and units < params.latent_dim:
        raise ParameterError(
            f"train_aae.init: with prior: {params.prior}, codes of {params.latent_dim} dimensions "
            f"have {units} {'unit' if units == 1 else 'units'}, for which your own networks cannot "
            "start from those of the autoencoder; choose 'scratch'"
        )


def make_layers(
    kind: Mlp | Conv | Own,
    image_shape: Sequence[int],
    noise: int,
    outputs: int,
    units: int,
    seed: int | None,
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the layers of encoder and decoder.

    The encoder's last layer and the decoder's first one are linear.

    Args:
        kind: the kind of networks.
        image_shape: channels C, height and width.
        noise: numbers of noise that are an additional input of the encoder.
        outputs: outputs of the encoder.
        units: inputs of the decoder: the units k, and categories if it takes them as inputs.
        seed: the seed of params.yaml, for the initial weights; None if they are loaded afterwards.

    Returns:
        The encoder's layers, from [N, C + noise, H, W] (of an MLP: [N, C·H·W + noise]) to [N,
        outputs]; and the decoder's, from [N, k] to N images from 0 to 1.

    Raises:
        ParameterError: if such networks cannot be made.
    """
    first, second = (
        None if seed is None else stream(seed, f"weights of the {network}")
        for network in ("encoder", "decoder")
    )
    match kind:
        case Mlp(hidden=hidden):
            encoder = mlp_encoder(image_shape, hidden, noise, outputs, first)
            return encoder, mlp_decoder(image_shape, hidden, units, second)
        case Conv(channels=channels, features=features):
            encoder = conv_encoder(image_shape, channels, features, noise, outputs, first)
            return encoder, conv_decoder(image_shape, channels, features, units, second)
        case Own(kind=name):
            return own_layers(name, image_shape, noise, outputs, units, first)
