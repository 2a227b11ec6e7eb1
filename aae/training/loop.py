"""The loop of a training: epochs, learning rates, and the state from which it resumes.

The phases in aae/training/phases.py define what a step does.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from aae.errors import SnapshotError, TrainingError
from aae.models import Model
from aae.params import Precision, TrainingSettings
from aae.training.batches import Batch, Batches
from aae.training.cuda_graph import Recorded
from aae.training.devices import rounding, training_precision
from aae.training.distributed import (
    from_leader,
    is_leader,
    part_of,
    sum_over_ranks,
    under_torchrun,
)
from aae.training.phases import Phase, Step

# Steps between two updates of the averaged weights. An update at every step would take a tenth of
# the time of a training.
AVERAGE_EVERY = 5
# The number of an epoch under "epoch", and its mean losses by name.
Losses = dict[str, float]


class Training:
    """A training of a model, which carries out its phases in order on every batch.

    Args:
        model: trained in place, on its device.
        phases: the updates of a step.
        batches: source of the batches.
        settings: the section ``train_ae`` or ``train_aae`` of params.yaml.
        precision: "float32"; "tf32", with which a GPU rounds the inputs of matrix products to a
            mantissa of 10 bits; "bf16" (mixed precision) for passes through the networks in
            bfloat16, with a mantissa of 7 bits, and weights, losses and optimisers in float32;
            "auto" for bf16 on a device that supports it.

    Attributes:
        averaged: the model with averaged weights, which is the result of the training. Its weights
            are exponential moving averages of the trained weights, which circle around the
            equilibrium of the two opponents, whereas their average stays close to it: Yazıcı et al.
            2019, https://arxiv.org/abs/1806.04498. With ``average: 0`` they are the trained ones.
    """

    def __init__(
        self,
        model: Model,
        phases: Sequence[Phase],
        batches: Batches,
        settings: TrainingSettings,
        precision: Precision = "float32",
    ) -> None:
        self.model, self.phases, self.batches, self.settings = model, phases, batches, settings
        self.precision = training_precision(precision, model.device)
        self.steps_per_epoch = math.ceil(len(batches) / settings.batch_size)
        self.steps = settings.epochs * self.steps_per_epoch
        self.step = 0  # steps taken so far
        self.batch_size = settings.batch_size  # of the current batch, over all processes
        self.totals: dict[str, Tensor] = {}  # of the losses in this epoch
        self.averaged = copy.deepcopy(model)
        # Steps between the last two updates of the average in an epoch; the last one is at its end.
        self.last_average = (self.steps_per_epoch - 1) % AVERAGE_EVERY + 1
        self.optimisers = {phase.name: self._optimiser(phase) for phase in phases}
        self.schedulers = {
            name: LambdaLR(optimiser, self._rate_factor)
            for name, optimiser in self.optimisers.items()
        }

    def train_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Carry out every phase on a batch; return the loss of each before its (last) update.

        A GPU records this method as a CUDA graph and replays it. Therefore the method must neither
        copy a value to the CPU nor draw a random number.
        """
        step = Step(self.model, batch, self.precision)
        losses = {}
        for phase in self.phases:
            for step.turn in range(phase.updates):
                losses[f"{phase.name}_loss"] = self.update(phase, step)
        return losses

    def update(self, phase: Phase, step: Step) -> Tensor:
        """Take one step of a phase's optimiser; return the loss before the step."""
        optimiser, weights = self.optimisers[phase.name], _weights(phase.networks)
        loss = phase.loss(step)
        optimiser.zero_grad()
        ((loss.value + loss.penalty) * part_of(self.batch_size)).backward(inputs=weights)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        assert len(gradients) == len(weights), f"{phase.name}: the loss does not reach every weight"
        sum_over_ranks(gradients)
        optimiser.step()
        step.after(phase)
        return loss.value.detach()

    @torch.no_grad()
    def validate(self) -> dict[str, Tensor]:
        """Return the losses of the averaged model on the validation images."""
        totals: dict[str, Tensor] = {}
        for batch in self.batches.validation():
            step, rows = Step(self.averaged, batch), len(batch["inputs"])
            for phase in self.phases:
                if not phase.validated:
                    continue
                name, loss = f"validation_{phase.name}_loss", phase.loss(step).value
                totals[name] = totals.get(name, 0) + loss * rows
        return {name: x / len(self.batches.validation_images) for name, x in totals.items()}

    def epochs(self, between_steps: Callable[[], object] = lambda: None) -> Iterator[Losses]:
        """Train to the end; yield the mean training and validation losses of every epoch.

        With several processes, all of them start from the leader's state, and only the leader
        validates.

        Args:
            between_steps: called before every step. At this point the rest of the training depends
                only on :meth:`state_dict`.

        Raises:
            TrainingError: if a loss or a weight is not finite.
        """
        from_leader(self)
        on_gpu = self.model.device.type == "cuda"
        # Under torchrun a step waits for other processes, and a graph cannot record that.
        recorded = on_gpu and not under_torchrun()
        train_batch = Recorded(self.train_batch) if recorded else self.train_batch
        while self.step < self.steps:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            order = self.batches.order().split(self.settings.batch_size)
            for indices in order[done:]:
                between_steps()
                self.batch_size = len(indices)
                batch = self.batches.draw(indices)
                with rounding(self.precision):
                    losses = train_batch(batch)
                losses = {name: x * part_of(self.batch_size) for name, x in losses.items()}
                sum_over_ranks(list(losses.values()))
                self.step += 1
                # The end of an epoch counts, since the validation there uses the average.
                if (taken := self.step % self.steps_per_epoch) % AVERAGE_EVERY == 0:
                    self._move_average(AVERAGE_EVERY if taken else self.last_average)
                for scheduler in self.schedulers.values():
                    scheduler.step()
                if not on_gpu:  # reading a value would wait for the GPU
                    self._check_finite(losses)
                for name, loss in losses.items():
                    self.totals[name] = self.totals.get(name, 0) + loss * len(indices)
            self._check_finite(self.totals)
            means = {name: total.item() / len(self.batches) for name, total in self.totals.items()}
            validation = self.validate() if is_leader() else {}
            self._check_finite(validation)
            self._check_finite(dict(self.model.named_parameters()))
            self.totals = {}
            yield {"epoch": epoch + 1, **means, **{k: x.item() for k, x in validation.items()}}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the training depends on.

        Weights and moments in it are the training's tensors, not copies.
        """
        return {
            "step": self.step,
            "totals": self.totals,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": {k: optimiser.state_dict() for k, optimiser in self.optimisers.items()},
            "schedulers": {k: scheduler.state_dict() for k, scheduler in self.schedulers.items()},
            "batches": self.batches.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of :meth:`state_dict`, so that the training continues identically.

        Raises:
            SnapshotError: if the state belongs to another training; this training is then
                unchanged.
        """
        before = copy.deepcopy(self.state_dict())
        try:
            self._load(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            self._load(before)
            raise SnapshotError(f"it belongs to another training: {error}") from error

    def _load(self, state: Mapping[str, Any]) -> None:
        device = self.model.device
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(copy.deepcopy(state["optimisers"][name]))
            for group in optimiser.param_groups:
                if isinstance(group["lr"], Tensor):  # a recorded step reads it on the GPU
                    group["lr"] = group["lr"].to(device)
            self.schedulers[name].load_state_dict(dict(state["schedulers"][name]))
        self.batches.load_state_dict(state["batches"])
        self.totals = {name: total.to(device, copy=True) for name, total in state["totals"].items()}
        self.step = state["step"]
        if not 0 <= self.step <= self.steps:
            raise ValueError(f"step {self.step} of {self.steps}")

    def _optimiser(self, phase: Phase) -> Adam:
        """Return an Adam optimiser for the weights that a phase changes."""
        device = self.model.device
        on_gpu = device.type == "cuda"
        return Adam(
            _weights(phase.networks),
            # A recorded step reads the learning rate from a tensor.
            lr=torch.tensor(phase.learning_rate, device=device) if on_gpu else phase.learning_rate,
            betas=(self.settings.beta1, self.settings.beta2),
            fused=device.type != "meta",
            capturable=on_gpu,
        )

    @torch.no_grad()
    def _move_average(self, steps: int) -> None:
        """Move the averaged weights towards the current ones, for a number of steps since the last.

        The time constant is ``average`` epochs, but at the start at most a tenth of the steps taken
        so far: otherwise a short training would mostly return its initial weights.
        """
        constant = min(self.settings.average * self.steps_per_epoch, self.step / 10)
        averages, weights = tuple(self.averaged.parameters()), tuple(self.model.parameters())
        if constant == 0 or self.step == steps:  # the first time
            torch._foreach_copy_(averages, weights)
        else:
            share = 1 - math.exp(-steps / constant)
            torch._foreach_lerp_(averages, weights, share)

    def _rate_factor(self, step: int) -> float:
        """Return the factor of the learning rate in a step: linear warm-up, then cosine decay to 0.

        The decay is that of Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, eq. 5,
        without restarts; with ``schedule: constant`` there is none.
        """
        warmup = self.settings.warmup * self.steps
        factor = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
        if self.settings.schedule == "cosine":
            factor *= (1 + math.cos(math.pi * step / self.steps)) / 2
        return factor

    def _check_finite(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            if not torch.isfinite(value).all():
                what = value.item() if value.ndim == 0 else "not finite"
                epoch, step = divmod(self.step - 1, self.steps_per_epoch)
                raise TrainingError(
                    f"{name} is {what} in epoch {epoch + 1}, step {step + 1} of "
                    f"{self.steps_per_epoch}; lower learning_rate"
                )


def _weights(networks: Sequence[nn.Module]) -> list[Tensor]:
    return [weight for network in networks for weight in network.parameters()]
