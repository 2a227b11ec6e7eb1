"""The model: its networks, their architecture, and the passes through them."""

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from aae.models.categories import NO_CATEGORIES, Categories, one_hot
from aae.models.initial import device_of, initialised
from aae.models.kinds import Kind, Mlp, make_layers
from aae.models.networks import Decoder, Discriminator, Encoder, apply, chunk
from aae.params import DETERMINISTIC, Count, Layers, Posterior, PriorEntry
from aae.priors import Prior, make_distribution
from aae.priors.units import Units, gaussian_units, identity
from aae.seeding import stream


class Architecture(BaseModel):
    """Everything that is needed to rebuild the networks; saved with their weights.

    Attributes:
        image_shape: channels, height and width.
        latent_dim: dimensions of a code.
        network: the kind of encoder and decoder, and the sizes of their layers. ``hidden=(1000,)``
            is short for ``network=Mlp(hidden=(1000,))``.
        discriminator_hidden: units of the discriminator's hidden layers; None for an autoencoder,
            which has no discriminator.
        prior: name, distribution and arguments of the prior; None for an autoencoder.
        units: what the networks see instead of codes: "gaussian" for the units of
            :mod:`aae.priors.units`, in which the prior is N(0, I); "codes" for codes unchanged.
        posterior: the kind of posterior.
        categories: what the networks know of classes or clusters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_shape: tuple[Count, Count, Count]
    latent_dim: Annotated[int, Field(ge=1, le=1024)]
    network: Kind
    discriminator_hidden: Layers | None = None
    prior: dict[str, Any] | None = None
    units: Literal["gaussian", "codes"] = "codes"
    posterior: Posterior = DETERMINISTIC
    # Not saved if there are none, so that the bytes of other models stay the same.
    categories: Categories = Field(default=NO_CATEGORIES, exclude_if=NO_CATEGORIES.__eq__)

    @model_validator(mode="before")
    @classmethod
    def _hidden_alone(cls, values: Any) -> Any:
        # Files from before there was more than one kind of networks have it too.
        if isinstance(values, dict) and "hidden" in values and "network" not in values:
            rest = {key: value for key, value in values.items() if key != "hidden"}
            return rest | {"network": {"kind": "mlp", "hidden": values["hidden"]}}
        return values

    def make_units(self, fitted: bool = True) -> Units:
        """Return the units that the networks use.

        Args:
            fitted: see :func:`aae.priors.units.gaussian_units`.

        Raises:
            ParameterError: if there is no such prior.
        """
        prior = self.make_prior() if self.units == "gaussian" else None
        return identity(self.latent_dim) if prior is None else gaussian_units(prior, fitted)

    def make_prior(self) -> Prior | None:
        """Return the prior; None for an autoencoder.

        Raises:
            ParameterError: if there is no such prior.
        """
        if self.prior is None:
            return None
        entry = PriorEntry.model_validate({k: v for k, v in self.prior.items() if k != "name"})
        return Prior(make_distribution(entry.distribution, entry.arguments), self.latent_dim)


class Model(nn.Module):
    """An autoencoder and, if its architecture has them, the discriminators of its codes.

    Code outside of a training uses its methods, not its networks.

    Args:
        architecture: sizes of the networks.
        seed: the seed of params.yaml, for the initial weights; None if they are loaded afterwards.

    Raises:
        ParameterError: if there is no prior as the architecture has it, or if networks of this kind
            cannot be made.

    Example:
        >>> model = Model(Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,)), seed=0)
        >>> codes = model.encode(torch.zeros(5, 1, 4, 4))
        >>> codes.shape, model.decode(codes).shape
        (torch.Size([5, 2]), torch.Size([5, 1, 4, 4]))
    """

    discriminator: Discriminator | None
    category_discriminator: Discriminator | None

    def __init__(self, architecture: Architecture, seed: int | None) -> None:
        super().__init__()
        self.architecture = a = architecture

        self.units = a.make_units(fitted=seed is not None)
        k, c = self.units.dimensions, a.categories
        noise = k if a.posterior.kind == "universal" else 0
        outputs = k * (1 + a.posterior.is_learnt) + c.from_encoder
        inputs = k if c.places else k + c.to_decoder

        def source(purpose: str) -> torch.Generator | None:
            return None if seed is None else stream(seed, f"weights of the {purpose}")

        encoder, decoder = make_layers(a.network, a.image_shape, noise, outputs, inputs, seed)
        self.encoder = Encoder(encoder, k, a.posterior, isinstance(a.network, Mlp), c.from_encoder)
        places = None
        if c.places:
            generator = source("places")
            layer = nn.Linear(c.to_decoder, k, bias=False, device=device_of(generator))
            places = initialised(layer, generator)
        self.decoder = Decoder(decoder, a.image_shape, places)
        self.discriminator = self.category_discriminator = None
        if (hidden := a.discriminator_hidden) is not None:
            self.discriminator = Discriminator(
                hidden, k + c.to_discriminator, source("discriminator")
            )
            if c.from_encoder:
                generator = source("category discriminator")
                self.category_discriminator = Discriminator(hidden, c.from_encoder, generator)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the codes [N, d] of images [N, C, H, W], uint8 or with values from 0 to 1.

        Args:
            images: the images.
            noise: what :meth:`noise` returns, for samples of the posterior q(z|x); without it the
                codes are at the mean of the posterior in units.
        """
        inputs = [images] if noise is None else [images, noise]
        return apply(
            lambda *x: self.units.to_codes(self.encoder(*x)),
            self.device,
            *inputs,
            size=chunk(self.architecture.image_shape),
        )

    def classify(self, images: Tensor) -> Tensor:
        """Return the probabilities [N, K] of the categories of images, as :meth:`encode` has them.

        The architecture must have an encoder that emits them.
        """
        return apply(
            lambda x: self.encoder.heads(x)[1].softmax(1),
            self.device,
            images,
            size=chunk(self.architecture.image_shape),
        )

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the images [N, C, H, W] of codes [N, d], with values from 0 to 1.

        Args:
            codes: the codes.
            labels: the category [N] of each code, or the probabilities [N, K] of its categories;
                only for a decoder that takes them, and needed there.
        """
        inputs = [codes]
        if labels is not None:
            count = self.architecture.categories.to_decoder
            inputs += [one_hot(labels, count) if labels.ndim == 1 else labels]
        return apply(
            lambda z, *y: self.decoder(self.units.to_units(z), *y),
            self.device,
            *inputs,
            size=chunk(self.architecture.image_shape),
        )

    def labels_of(self, images: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return what the decoder takes beside the codes of images; None if it takes only codes.

        Args:
            images: the images.
            labels: their classes [N], which a decoder takes if its encoder emits no category.

        Returns:
            Probabilities [N, K] of the categories.
        """
        categories = self.architecture.categories
        if categories.from_encoder:
            return self.classify(images)
        if not categories.to_decoder:
            return None
        assert labels is not None
        return one_hot(labels, categories.to_decoder)

    def placed(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Return what a decoder with places sees: codes in units, plus the places of categories.

        Args:
            codes: the codes [N, d].
            labels: probabilities [N, K] of their categories.

        Returns:
            Sums [N, k]: Makhzani et al. 2015, section 7.
        """
        places = self.decoder.places
        assert places is not None
        return apply(lambda z, y: self.units.to_units(z) + places(y), self.device, codes, labels)

    def draw_labels(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Draw categories [count] from their prior; None if the decoder takes none."""
        categories = self.architecture.categories.to_decoder
        return torch.randint(categories, (count,), generator=generator) if categories else None

    def noise(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Draw noise [count, k] of posteriors; None if the posterior is deterministic."""
        if self.architecture.posterior.kind == "deterministic":
            return None
        return torch.randn(count, self.units.dimensions, generator=generator)
