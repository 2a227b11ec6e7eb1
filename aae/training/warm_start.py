"""The weights that the training of an adversarial autoencoder starts from."""

import torch
from torch import Tensor

from aae.models import Model
from aae.models.networks import rescale_codes
from aae.params import TrainAAE
from aae.priors import Prior


def initialise(
    model: Model, prior: Prior, settings: TrainAAE, autoencoder: Model, images: Tensor
) -> None:
    """Give a new adversarial autoencoder the weights that its training starts from.

    With ``standardise`` its networks see codes in units of the prior. With ``init: ae`` encoder and
    decoder are those of the trained autoencoder, with codes rescaled to the prior's mean and
    standard deviation, which leaves the reconstructions as they are.

    Args:
        model: changed in place.
        prior: the distribution that the codes are to follow.
        settings: the section ``train_aae`` of params.yaml.
        autoencoder: the trained autoencoder.
        images: the uint8 images [N, C, H, W] that it was trained on.
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
