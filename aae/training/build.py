"""The two trainings of the pipeline, put together from parameters, images and models."""

from torch import Tensor

from aae.data import KnownLabels
from aae.models import Architecture, Model
from aae.models.categories import NO_CATEGORIES, Categories
from aae.models.kinds import chosen_kind
from aae.params import DETERMINISTIC, Params
from aae.priors import chosen_prior
from aae.training.batches import Batches
from aae.training.devices import training_device
from aae.training.loop import Training
from aae.training.phases import adversarial_phases, autoencoder_phases
from aae.training.warm_start import initialise


def autoencoder_training(params: Params, images: Tensor, validation_images: Tensor) -> Training:
    """Return the training of an autoencoder at its start.

    Args:
        params: all parameters.
        images: uint8 training images [N, C, H, W].
        validation_images: uint8 images [M, C, H, W] that the training does not see.

    Raises:
        ParameterError: if the device or the precision is not available, or if networks of this kind
            cannot be made for these images.
    """
    architecture = Architecture(
        image_shape=_image_shape(images),
        latent_dim=params.latent_dim,
        network=chosen_kind(
            params.network.kind,
            params.network.hidden,
            params.network.channels,
            params.network.features,
        ),
    )
    model = Model(architecture, params.seed).to(training_device(params.device))
    batches = Batches(images, validation_images, model, params.augment, params.seed)
    phases = autoencoder_phases(model, params.train_ae)
    return Training(model, phases, batches, params.train_ae, params.precision)


def adversarial_training(
    params: Params,
    images: Tensor,
    validation_images: Tensor,
    autoencoder: Model | None,
    known: KnownLabels | None = None,
) -> Training:
    """Return the training of an adversarial autoencoder at its start.

    Args:
        params: all parameters.
        images: uint8 training images [N, C, H, W].
        validation_images: uint8 images [M, C, H, W] that the training does not see.
        autoencoder: the trained autoencoder, if the training starts from it.
        known: the labels that the training may see; None if it uses none.

    Raises:
        ParameterError: if the device or the precision is not available, or if networks of this kind
            cannot be made for these images.
    """
    prior, settings, labels = chosen_prior(params), params.train_aae, params.labels
    categories = NO_CATEGORIES
    if labels.use != "none":
        assert known is not None or labels.use == "clusters", "the known labels are missing"
        names = known.class_names if known else ()
        count = len(names) if known else labels.clusters
        categories = Categories(use=labels.use, count=count, places=labels.places, names=names)
    posterior = params.posterior
    if categories.to_discriminator and posterior.fixed_variance:
        # In units, parts of the prior are narrower than the noise.
        posterior = DETERMINISTIC
    architecture = Architecture(
        image_shape=_image_shape(images),
        latent_dim=params.latent_dim,
        network=chosen_kind(
            params.network.kind,
            params.network.hidden,
            params.network.channels,
            params.network.features,
        ),
        discriminator_hidden=params.network.discriminator_hidden,
        prior={"name": params.prior, **params.priors[params.prior].model_dump()},
        units="gaussian" if settings.standardise else "codes",
        posterior=posterior,
        categories=categories,
    )
    model = Model(architecture, params.seed)
    if params.starts_from_autoencoder:
        assert autoencoder is not None
        initialise(model, prior, autoencoder, images)
    model.to(training_device(params.device))
    batches = Batches(
        images, validation_images, model, params.augment, params.seed, prior,
        settings.discriminator_steps, known,
    )  # fmt: skip
    phases = adversarial_phases(model, settings, labels)
    return Training(model, phases, batches, settings, params.precision)


def _image_shape(images: Tensor) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width
