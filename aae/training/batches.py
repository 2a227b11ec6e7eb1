"""The batches of a training: everything that a step needs is drawn before the step.

Every kind of random number has a separate stream, and every process draws the numbers for the whole
batch. Therefore neither a new kind nor another number of processes changes the numbers.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aae.models.networks import CHUNK, pixels
from aae.priors import Prior
from aae.seeding import stream
from aae.training.distributed import own_rows

# Maps names to tensors, see :meth:`Batches.draw`.
Batch = Mapping[str, Tensor]


class Batches:
    """Draws the batches of a training.

    Args:
        images: uint8 training images [N, C, H, W].
        validation_images: uint8 images [M, C, H, W] that the training does not see.
        prior: the distribution that the codes should follow; None for an autoencoder.
        seed: the seed of params.yaml.
        device: device of the training.
    """

    def __init__(
        self,
        images: Tensor,
        validation_images: Tensor,
        prior: Prior | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.images = images.to(device)
        self.validation_images = validation_images.to(device)
        self.prior = prior.to(device) if prior else None
        self.generators = {"batch order": stream(seed, "batch order")}
        self.epoch_began = self.generators["batch order"].get_state()
        if self.prior:
            self.generators["prior samples"] = stream(seed, "prior samples")
            self.validation_samples = self.prior.sample(
                len(validation_images), stream(seed, "prior samples for validation")
            )

    def __len__(self) -> int:
        return len(self.images)

    def order(self) -> Tensor:
        """Return the order [N] of the images in the next epoch."""
        self.epoch_began = self.generators["batch order"].get_state()
        order = torch.randperm(len(self.images), generator=self.generators["batch order"])
        return order.to(self.images.device)

    def draw(self, indices: Tensor) -> Batch:
        """Draw a batch and return this process's rows of it.

        Args:
            indices: indices [B] of the images in the batch.

        Returns:
            ``images`` [b, C, H, W] with values from 0 to 1; with a prior also ``prior_samples``
            [b, d].
        """
        batch = {"images": pixels(self.images[own_rows(indices)])}
        if self.prior:
            samples = self.prior.sample(len(indices), self.generators["prior samples"])
            batch["prior_samples"] = own_rows(samples)
        return batch

    def validation(self) -> Iterator[Batch]:
        """Yield the validation images in parts, with the same prior samples every time."""
        # As floats, all images together would take more memory than the training.
        for start in range(0, len(self.validation_images), CHUNK):
            rows = slice(start, start + CHUNK)
            batch = {"images": pixels(self.validation_images[rows])}
            if self.prior:
                batch["prior_samples"] = self.validation_samples[rows]
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every stream; that of the order is the one at the epoch's start."""
        states = {name: generator.get_state() for name, generator in self.generators.items()}
        return states | {"batch order": self.epoch_began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` has returned."""
        for name, generator in self.generators.items():
            generator.set_state(state[name])
        self.epoch_began = state["batch order"]
