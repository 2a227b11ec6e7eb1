"""The judge: a small classifier of real images, whose features compare generated images.

It learns the classes of the images. If they have no labels, it learns by how far an image is
rotated, which also takes features of what the image shows: Gidaris et al. 2018,
https://arxiv.org/abs/1803.07728.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from aae.data import Images
from aae.models.networks import apply, chunk, pixels
from aae.progress import ShowProgress, silent
from aae.seeding import stream

BATCH_SIZE = 100
LEARNING_RATE = 2e-3
# Largest shift of a batch in pixels. It augments the images, so that the judge overfits less.
SHIFT = 1
# Units of the last hidden layer, whose outputs are the features.
FEATURES = 64
# Largest height and width that the convolutions see, because those of larger images take minutes.
LARGEST = 64


class Judge(nn.Module):
    """A convolutional classifier of images [N, C, H, W] from 0 to 1.

    It first shrinks images that are higher or wider than :data:`LARGEST`, by averaging pixels.

    Args:
        image_shape: channels, height and width.
        classes: number of classes, or of rotations.
        generator: source of the initial weights.
    """

    def __init__(
        self, image_shape: Sequence[int], classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        channels, *sides = image_shape
        height, width = (min(side, LARGEST) for side in sides)
        shrink = [nn.AdaptiveAvgPool2d((height, width))] if max(sides) > LARGEST else []
        size = -(-height // 4) * -(-width // 4)  # after two layers of stride 2
        self.features = nn.Sequential(
            *shrink,
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
        size = chunk(images.shape[1:])
        return apply(self, torch.device("cpu"), images, size=size).softmax(1)

    def accuracy(self, images: Images) -> float:
        """Return the share of images, or of rotations of images, that the judge gets right."""
        size = chunk(images.images.shape[1:])
        parts = (examples(images[part]) for part in torch.arange(len(images)).split(size))
        correct = [self.probabilities(shown).argmax(1) == labels for shown, labels in parts]
        return torch.cat(correct).double().mean().item()


def quarter_turns(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the rotations that keep the shape of an image, in quarter turns.

    A quarter turn of an image that is not square exchanges height and width, by which the judge
    would know it; half a turn remains.
    """
    _, height, width = image_shape
    return (0, 1, 2, 3) if height == width else (0, 2)


def examples(images: Images) -> tuple[Tensor, Tensor]:
    """Return what the judge learns from n images: images, and the right answers.

    These are the images [n, C, H, W] and their classes [n], or, without labels, all r rotations of
    each image [r·n, C, H, W] and the index of each rotation [r·n].
    """
    if images.labels is not None:
        return images.images, images.labels
    turns = quarter_turns(images.images.shape[1:])
    rotated = [images.images.rot90(turn, dims=(2, 3)) for turn in turns]
    labels = torch.arange(len(turns), dtype=torch.uint8).repeat_interleave(len(images))
    return torch.cat(rotated), labels


def train_judge(
    train: Images, classes: int, steps: int, seed: int, progress: ShowProgress = silent
) -> Judge:
    """Train a judge; the result does not depend on the number of threads.

    Args:
        train: the training images, with or without labels.
        classes: number of classes; 0 without labels.
        steps: number of batches. A batch has 100 examples: without labels, all rotations of 25 (or
            50) images.
        seed: the seed of params.yaml.
        progress: shows the number of batches that are done.
    """
    threads = torch.get_num_threads()
    # The order in which threads sum the gradients of convolutions depends on their number.
    torch.set_num_threads(1)
    try:
        shape = train.images.shape[1:]
        rotations = len(quarter_turns(shape)) if train.labels is None else 1
        judge = Judge(shape, classes or rotations, stream(seed, "weights of the judge"))
        # This format is a third faster on a CPU. In torch's stubs only tensors have this argument.
        judge = judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = Adam(judge.parameters(), LEARNING_RATE, fused=True)
        decay = CosineAnnealingLR(optimiser, steps)
        order = stream(seed, "batches of the judge")
        for _ in progress(range(steps), steps, "steps of the judge"):
            chosen = torch.randint(len(train), (BATCH_SIZE // rotations,), generator=order)
            batch, answers = examples(train[chosen])
            shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=order).tolist()
            images = pixels(batch).roll(shift, dims=(2, 3))
            loss = F.cross_entropy(judge(images), answers.long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
    finally:
        torch.set_num_threads(threads)
    return judge
