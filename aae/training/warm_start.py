"""The initial weights of an adversarial autoencoder."""

import torch
from torch import Tensor

from aae.models import Model
from aae.models.networks import rescale_codes
from aae.params import TrainAAE
from aae.priors import Prior


def initialise(
    model: Model, prior: Prior, settings: TrainAAE, autoencoder: Model, images: Tensor
) -> None:
    """Set the initial weights of an adversarial autoencoder.

    With ``standardise`` its networks see codes in units of the prior. With ``init: ae`` encoder and
    decoder are those of the trained autoencoder, with codes rescaled to the prior's mean and
    standard deviation. This does not change the reconstructions.

    Args:
        model: changed in place.
        prior: the distribution that the codes should follow.
        settings: the section ``train_aae`` of params.yaml.
        autoencoder: the trained autoencoder.
        images: its uint8 training images [N, C, H, W].
    """
    if settings.init == "ae":
        model.encoder.load_state_dict(autoencoder.encoder.state_dict())
        model.decoder.load_state_dict(autoencoder.decoder.state_dict())
        codes = model.encode(images)
        mean, scale = codes.mean(0), codes.std(0)
        scale = torch.where(scale > 0, scale, 1)  # a dimension that the autoencoder does not use
        if not settings.standardise:
            scale = scale / prior.scale
            mean = mean - prior.mean * scale
        rescale_codes(model.encoder, model.decoder, mean, scale)
    if settings.standardise:
        assert model.discriminator is not None
        for network in (model.encoder, model.decoder, model.discriminator):
            network.set_units(prior.mean, prior.scale)
