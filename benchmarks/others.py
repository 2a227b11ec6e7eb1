"""Other implementations of the adversarial autoencoder, with which benchmarks compare this project.

All have the same networks: an encoder 784-1000-1000-2, a decoder that mirrors it, and a
discriminator 2-1000-1000-1, with the initial weights of torch. Nothing else is shared with the
project.

- **textbook** is the algorithm as tutorials write it: a DataLoader that converts one image after
  another into a tensor, a pass of the encoder in each of three phases, `torch.optim.Adam` with its
  default implementation, and no gradient penalty. Its settings are those of the article in
  docs/recipe.md: a learning rate of 10⁻³ and β₁ = 0.9 in all phases, and the prior N(0, 5²).
- **pythae** is the epoch of its `AdversarialTrainer`, without the progress bar. Learning rates,
  weights of the losses and the standard Gaussian prior are its own. It has no gradient penalty and
  less to do: one pass of the encoder serves both phases, and encoder and decoder take one step on
  the sum of reconstruction and adversarial loss, whereas the paper takes two.
"""

import importlib.util
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

IMAGE_SHAPE = (1, 28, 28)
HIDDEN, LATENT_DIM = (1000, 1000), 2
ENCODER = tuple(itertools.pairwise((784, *HIDDEN, LATENT_DIM)))
DECODER = tuple(itertools.pairwise((LATENT_DIM, *HIDDEN, 784)))
DISCRIMINATOR = tuple(itertools.pairwise((LATENT_DIM, *HIDDEN, 1)))
# Standard deviations of the two priors, both of which are Gaussian with mean 0.
TEXTBOOK_STD, PYTHAE_STD = 5.0, 1.0
PYTHAE = "pythae==0.1.2"

# Called between two steps of a loop; ends the loop with an exception.
Tick = Callable[[], None]


class Loop(NamedTuple):
    """A training of an implementation.

    Attributes:
        encoder: its layers, from pixels [N, 784] with values from 0 to 1 to codes [N, 2].
        decoder: its layers, from codes [N, 2] to pixels [N, 784] with values from 0 to 1.
        epoch: carries out an epoch.
    """

    encoder: nn.Sequential
    decoder: nn.Sequential
    epoch: Callable[[Tick], object]


def missing_pythae() -> str:
    """Return how to install pythae; an empty string if it is installed."""
    return "" if importlib.util.find_spec("pythae") else f"not installed: pip install {PYTHAE}"


def layers(sizes: Iterable[tuple[int, int]], *last: nn.Module) -> nn.Sequential:
    """Return linear layers with ReLU in between, followed by the ``last`` modules."""
    modules: list[nn.Module] = []
    for size in sizes:
        modules += [nn.Linear(*size), nn.ReLU()]
    return nn.Sequential(*modules[:-1], *last)


def textbook(images: Tensor, batch: int, device: torch.device, loading: bool = True) -> Loop:
    """Set up the algorithm as tutorials write it.

    Args:
        images: uint8 training images [N, 1, 28, 28].
        batch: number of images in a batch.
        device: device of the training.
        loading: whether it loads its images; otherwise it repeats 50 batches that are ready.
    """
    from aae.data._torchvision import datasets

    # isort: split
    # Only after aae.data._torchvision, without which it does not load with some builds of torch.
    from torchvision.transforms import ToTensor

    class InMemory(datasets.MNIST):
        # The constructor of torchvision's class would read files.
        def __init__(self) -> None:
            self.data, self.targets = images[:, 0], torch.zeros(len(images), dtype=torch.long)
            self.transform, self.target_transform = ToTensor(), None

    encoder, decoder = layers(ENCODER).to(device), layers(DECODER, nn.Sigmoid()).to(device)
    discriminator = layers(DISCRIMINATOR).to(device)
    autoencoder_weights = [*encoder.parameters(), *decoder.parameters()]
    reconstruction = torch.optim.Adam(autoencoder_weights, lr=1e-3)
    discrimination = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    generation = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    loader: DataLoader = DataLoader(InMemory(), batch_size=batch, shuffle=True, drop_last=True)
    batches = loader if loading else list(itertools.islice(loader, 50))
    if not loading:
        batches = [[images.to(device), labels] for images, labels in batches]
    real, fake = torch.ones(batch, 1, device=device), torch.zeros(batch, 1, device=device)

    def epoch(tick: Tick) -> None:
        for images, _ in batches:
            tick()
            inputs = images.to(device).flatten(1)

            reconstruction.zero_grad()
            F.mse_loss(decoder(encoder(inputs)), inputs).backward()
            reconstruction.step()

            discrimination.zero_grad()
            codes = encoder(inputs).detach()
            prior_samples = TEXTBOOK_STD * torch.randn(batch, LATENT_DIM, device=device)
            loss = F.binary_cross_entropy_with_logits(discriminator(prior_samples), real)
            loss = loss + F.binary_cross_entropy_with_logits(discriminator(codes), fake)
            loss.backward()
            discrimination.step()

            generation.zero_grad()
            F.binary_cross_entropy_with_logits(discriminator(encoder(inputs)), real).backward()
            generation.step()

    return Loop(encoder, decoder, epoch)


def pythae(images: Tensor, batch: int, device: torch.device) -> Loop:
    """Set up pythae's AdversarialTrainer, which writes to the working directory.

    Args:
        images: uint8 training images [N, 1, 28, 28].
        batch: number of images in a batch.
        device: device of the training.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models import Adversarial_AE, Adversarial_AE_Config
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
    from pythae.trainers import AdversarialTrainer, AdversarialTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers(ENCODER)

        def forward(self, images: Tensor) -> ModelOutput:
            codes = self.layers(images.flatten(1))
            # Pythae requires log_covariance, which has no effect on a deterministic encoder.
            return ModelOutput(embedding=codes, log_covariance=torch.zeros_like(codes))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers(DECODER, nn.Sigmoid())

        def forward(self, codes: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(codes).unflatten(1, IMAGE_SHAPE))

    class Discriminator(BaseDiscriminator):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers(DISCRIMINATOR, nn.Sigmoid())

        def forward(self, codes: Tensor) -> ModelOutput:
            return ModelOutput(embedding=self.layers(codes))

    class Ticking(TrainingCallback):
        tick: Tick

        def on_train_step_end(self, *_: object, **__: object) -> None:
            self.tick()

    logging.disable(logging.INFO)
    config = Adversarial_AE_Config(
        input_dim=IMAGE_SHAPE, latent_dim=LATENT_DIM, deterministic_posterior=True
    )
    encoder, decoder, callback = Encoder(), Decoder(), Ticking()
    trainer = AdversarialTrainer(
        model=Adversarial_AE(config, encoder, decoder, Discriminator()),
        train_dataset=BaseDataset(images / 255, torch.zeros(len(images))),
        training_config=AdversarialTrainerConfig(
            output_dir="pythae",
            per_device_train_batch_size=batch,
            no_cuda=device.type == "cpu",
            # The trainer seeds torch anew, which would give all runs the same batches.
            seed=torch.initial_seed(),
        ),
    )
    trainer.prepare_training()
    trainer.callback_handler.callbacks = [callback]

    def epoch(tick: Tick) -> None:
        callback.tick = tick
        trainer.train_step(epoch=1)

    return Loop(encoder.layers, decoder.layers, epoch)
