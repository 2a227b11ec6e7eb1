"""The judge: a small classifier of real images, whose features compare generated images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from aae.data import Images
from aae.models.networks import apply, pixels
from aae.progress import ShowProgress, silent
from aae.seeding import stream

BATCH_SIZE = 100
LEARNING_RATE = 2e-3
# Largest shift of a batch in pixels. It augments the images, so that the judge overfits less.
SHIFT = 1
# Units of the last hidden layer, whose outputs are the features.
FEATURES = 64


class Judge(nn.Module):
    """A convolutional classifier of images [N, C, H, W] from 0 to 1.

    Args:
        image_shape: channels, height and width.
        classes: number of classes.
        generator: source of the initial weights.
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
        """Return the probability of each class [N, classes], for any number of images."""
        return apply(self, torch.device("cpu"), images).softmax(1)


def train_judge(
    train: Images, classes: int, steps: int, seed: int, progress: ShowProgress = silent
) -> Judge:
    """Train a judge on labelled images; the result does not depend on the number of threads.

    Args:
        train: the training images.
        classes: number of classes.
        steps: number of batches.
        seed: the seed of params.yaml.
        progress: shows the number of batches that are done.
    """
    threads = torch.get_num_threads()
    # The order in which threads sum the gradients of convolutions depends on their number.
    torch.set_num_threads(1)
    try:
        judge = Judge(train.images.shape[1:], classes, stream(seed, "weights of the judge"))
        # This format is a third faster on a CPU. In torch's stubs only tensors have this argument.
        judge = judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = Adam(judge.parameters(), LEARNING_RATE, fused=True)
        decay = CosineAnnealingLR(optimiser, steps)
        order = stream(seed, "batches of the judge")
        for _ in progress(range(steps), steps, "steps of the judge"):
            batch = train[torch.randint(len(train), (BATCH_SIZE,), generator=order)]
            shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=order).tolist()
            images = pixels(batch.images).roll(shift, dims=(2, 3))
            loss = F.cross_entropy(judge(images), batch.labels.long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
    finally:
        torch.set_num_threads(threads)
    return judge
