"""The judge: a small classifier of real images, through whose eyes generated ones are looked at."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aae.training.adam import Adam, cosine
from aae.data.data import Images
from aae.models.networks import apply, pixels
from aae.progress import ShowProgress, silent
from aae.seeding import stream

BATCH_SIZE = 100
LEARNING_RATE = 2e-3
# Pixels by which a batch is shifted at most: no image is seen twice in quite the same way.
SHIFT = 1
# Width of the last layer before the classes, in which images are compared.
FEATURES = 64


class Judge(nn.Module):
    """A convolutional classifier of images [N, C, H, W] from 0 to 1.

    Args:
        image_shape: channels, height and width.
        classes: number of classes.
        generator: where the initial weights come from.
    """

    def __init__(
        self, image_shape: Sequence[int], classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        size = -(-height // 4) * -(-width // 4)  # after two layers of stride 2
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * size, FEATURES),
            nn.ReLU(),
        )
        self.classify = nn.Linear(FEATURES, classes)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_uniform_(parameter, nonlinearity="relu", generator=generator)
            else:
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes]."""
        return self.classify(self.features(images))

    def probabilities(self, images: Tensor) -> Tensor:
        """Return what each image is taken for [N, classes]; any number of images."""
        return apply(self, images).softmax(1)


def train_judge(
    train: Images, classes: int, steps: int, seed: int, progress: ShowProgress = silent
) -> Judge:
    """Train a judge on labelled images, the same one for any number of threads.

    Args:
        train: the training images.
        classes: number of classes.
        steps: number of batches; the same for any number of images, so that time is bounded.
        seed: the seed of params.yaml.
        progress: shows how many batches are done.
    """
    threads = torch.get_num_threads()
    # Gradients of convolutions are summed in an order that depends on the number of threads.
    torch.set_num_threads(1)
    try:
        judge = Judge(train.images.shape[1:], classes, stream(seed, "weights of the judge"))
        # A third faster on a CPU. The stub of `to` knows this argument for tensors only.
        judge = judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = Adam(judge.parameters(), LEARNING_RATE)
        order = stream(seed, "batches of the judge")
        for step in progress(range(steps), steps, "steps of the judge"):
            batch = train[torch.randint(len(train), (BATCH_SIZE,), generator=order)]
            shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=order).tolist()
            images = pixels(batch.images).roll(shift, dims=(2, 3))
            loss = F.cross_entropy(judge(images), batch.labels.long())
            optimiser.set_rate(LEARNING_RATE * cosine(step / steps))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    finally:
        torch.set_num_threads(threads)
    return judge
