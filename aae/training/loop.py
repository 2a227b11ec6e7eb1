"""The loop of a training: epochs, learning rates, and the state from which it goes on.

What a step does is in :mod:`aae.training.phases`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from aae.training.adam import Adam, cosine
from aae.training.cuda_graph import Recorded
from aae.training.devices import rounding, training_precision
from aae.training.distributed import (
    from_leader,
    is_leader,
    part_of,
    share,
    sum_over_ranks,
    under_torchrun,
)
from aae.errors import SnapshotError, TrainingError
from aae.models.networks import Model, pixels
from aae.params import Precision, TrainAAE, TrainAE
from aae.seeding import stream

# What is known of an epoch: its number under "epoch", and mean losses by name.
Losses = dict[str, float]


class Training(ABC):
    """A training of a model on mini-batches of images, in an order that is drawn for each epoch.

    Args:
        model: trained in place, on the device that it is on.
        settings: the section ``train_ae`` or ``train_aae`` of params.yaml.
        images: uint8 training images [N, C, H, W].
        seed: the seed of params.yaml.
        precision: "float32"; "tf32" for a GPU's matrix products of factors that are rounded to 10
            bits; "bf16" for passes through the networks in bfloat16, with weights, losses and
            optimisers in float32; "auto" for bf16 on a device that has it.

    Attributes:
        generators: streams of random numbers that the steps draw from, by purpose.
    """

    def __init__(
        self,
        model: Model,
        settings: TrainAE | TrainAAE,
        images: Tensor,
        seed: int,
        precision: Precision = "float32",
    ) -> None:
        self.model, self.settings = model, settings
        self.device = next(model.parameters()).device
        self.images = images.to(self.device)
        self.steps_per_epoch = math.ceil(len(images) / settings.batch_size)
        self.steps = settings.epochs * self.steps_per_epoch
        self.precision = training_precision(precision, self.device)
        self.step = 0  # that have been taken
        self.count = settings.batch_size  # images in the batch, on all ranks together
        self.totals: dict[str, Tensor] = {}  # of the losses in this epoch
        self.generators = {"batch order": stream(seed, "batch order")}
        self.epoch_began = self.generators["batch order"].get_state()
        self.optimisers: dict[str, Adam] = {}

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """Return what a step works on, this rank's share of it.

        Args:
            indices: of the images [B] in the batch.

        Returns:
            "images" [B, C, H, W] with values from 0 to 1, and what a training adds to them.
        """
        return {"images": pixels(self.images[share(indices)])}

    @abstractmethod
    def train_batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take one step on a :meth:`batch`; return the losses before it.

        On a GPU this is recorded and repeated: it may not look at a value, nor draw a random
        number, which is for :meth:`batch` to do.
        """

    @abstractmethod
    def validate(self) -> dict[str, Tensor]:
        """Return the losses on images that are not trained on."""

    def epochs(self, between_steps: Callable[[], None] = lambda: None) -> Iterator[Losses]:
        """Train on from where it stands; yield mean training and validation losses of every epoch.

        On several ranks all go on from where the leader stands, and it alone validates.

        Args:
            between_steps: called before every step, when :meth:`state` is all that the rest of the
                training depends on.

        Raises:
            TrainingError: if a loss or a weight is not finite.
        """
        self._join_leader()
        on_gpu = self.device.type == "cuda"
        # The processes of torchrun wait for each other within a step.
        recorded = on_gpu and not under_torchrun()
        train_batch = Recorded(self.train_batch) if recorded else self.train_batch
        while self.step < self.steps:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            self.epoch_began = self.generators["batch order"].get_state()
            order = torch.randperm(len(self.images), generator=self.generators["batch order"])
            batches = order.to(self.device).split(self.settings.batch_size)
            for indices in batches[done:]:
                between_steps()
                self._set_rates()
                self.count = len(indices)
                with rounding(self.precision):
                    losses = train_batch(self.batch(indices))
                losses = {name: loss * part_of(self.count) for name, loss in losses.items()}
                sum_over_ranks(list(losses.values()))
                self.step += 1
                if not on_gpu:  # looking at a value would wait until the GPU has computed it
                    self._check_finite(losses)
                for name, loss in losses.items():
                    self.totals[name] = self.totals.get(name, 0) + loss * len(indices)
            # In the order of a step: those of a snapshot come back in any.
            totals = {name: self.totals[name] for name in losses}
            self._check_finite(totals)
            means = {name: x.item() / len(self.images) for name, x in totals.items()}
            validated = self.validate() if is_leader() else {}
            validation = {f"validation_{name}": x for name, x in validated.items()}
            self._check_finite(validation)
            self._check_finite(dict(self.model.named_parameters()))
            self.totals = {}
            yield {"epoch": epoch + 1, **means, **{k: x.item() for k, x in validation.items()}}

    def state(self) -> dict[str, Tensor]:
        """Return all that the rest of the training depends on, beside what it was made from.

        Weights and optimisers' moments are the training's own tensors, not copies.
        """
        tensors = {"step": torch.tensor(self.step)}
        tensors |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for key, moments in optimiser.state.items():
                tensors |= {f"{name}/{index}/{key}": x for index, x in enumerate(moments)}
        tensors |= {name: generator.get_state() for name, generator in self.generators.items()}
        # The order of this epoch's batches is drawn again.
        tensors["batch order"] = self.epoch_began
        return tensors | {f"total/{name}": total for name, total in self.totals.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where :meth:`state` was taken, in exactly the same way.

        Raises:
            SnapshotError: if that state is of another training; this one is then unchanged.
        """
        own = {name: x for name, x in self.state().items() if not name.startswith("total/")}
        totals = {name: x for name, x in state.items() if name.startswith("total/")}
        if own.keys() | totals.keys() != state.keys():
            raise SnapshotError("its tensors are not those of this training")
        for name, tensor in state.items():
            like = own.get(name, torch.zeros(()))
            if tensor.shape != like.shape or tensor.dtype != like.dtype:
                raise SnapshotError(f"{name} has another shape or type than in this training")
            if not torch.isfinite(tensor).all():
                raise SnapshotError(f"{name} holds values that are not finite")
        if not 0 <= state["step"] < self.steps:
            raise SnapshotError(f"it is of step {state['step']}, of {self.steps}")
        for name in self.generators:
            try:
                torch.Generator().set_state(state[name])
            except RuntimeError as error:
                raise SnapshotError(f"{name} is no state of a generator") from error
        self.step = int(state["step"])
        self.totals = {
            name.removeprefix("total/"): x.to(self.device, copy=True) for name, x in totals.items()
        }
        for name, generator in self.generators.items():
            generator.set_state(state[name])
        self.epoch_began = state["batch order"]
        for name, tensor in own.items():
            if "/" in name:
                tensor.copy_(state[name])

    def _join_leader(self) -> None:
        """Go on from where the leader's training stands."""
        state = {name: x for name, x in self.state().items() if not name.startswith("total/")}
        from_leader(list(state.values()))
        if not is_leader():
            self.load_state(state)

    def add_optimiser(self, name: str, networks: list[nn.Module], rate: float) -> None:
        """Make an Adam for the weights of some networks.

        Args:
            name: what :meth:`descend` is to call it.
            networks: what it may change.
            rate: the learning rate, which rises and decays as the settings say.
        """
        weights = [weight for network in networks for weight in network.parameters()]
        betas = (self.settings.beta1, self.settings.beta2)
        self.optimisers[name] = Adam(weights, rate, betas)

    def outputs(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return a network's float32 outputs, computed in the precision of the training."""
        if self.precision != "bf16":
            return network(inputs)
        with torch.autocast(self.device.type, torch.bfloat16):
            return network(inputs).float()

    def descend(self, name: str, loss: Tensor) -> Tensor:
        """Let an optimiser take one step down a loss, on its own weights alone; return the loss.

        Args:
            name: of the optimiser.
            loss: a mean over this rank's share of the batch.
        """
        optimiser = self.optimisers[name]
        optimiser.zero_grad()
        (loss * part_of(self.count)).backward(inputs=optimiser.weights)
        sum_over_ranks(optimiser.gradients())
        optimiser.step()
        return loss.detach()

    def _set_rates(self) -> None:
        """Let the learning rates rise and decay."""
        warmup = self.settings.warmup * self.steps
        factor = min(1.0, (self.step + 1) / warmup) if warmup > 0 else 1.0
        if self.settings.schedule == "cosine":
            factor *= cosine(self.step / self.steps)
        for optimiser in self.optimisers.values():
            optimiser.set_rate(optimiser.initial_rate * factor)

    def _check_finite(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            if not torch.isfinite(value).all():
                what = value.item() if value.ndim == 0 else "not finite"
                epoch, step = divmod(self.step - 1, self.steps_per_epoch)
                raise TrainingError(
                    f"{name} is {what} in epoch {epoch + 1}, step {step + 1} of "
                    f"{self.steps_per_epoch}; lower learning_rate"
                )
