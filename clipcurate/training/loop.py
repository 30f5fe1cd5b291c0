"""One optimiser step after the other: the original CLIP's recipe, on one process or many.

Nothing here waits for the device: a step's figures stay there until someone reads them, and a step
that is not finite makes itself and all later ones change nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clipcurate.errors import TrainingError
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import Batch
from clipcurate.training.flops import ModelFlops, peak_of
from clipcurate.training.gradients import Inputs, add_gradients, contrastive_loss, refuse_coupled
from clipcurate.training.model import Towers, clamp_logit_scale, create_model
from clipcurate.training.optim import create_optimizer, gradient_norm, learning_rate
from clipcurate.training.text import trimmer_of
from clipcurate.training.transfer import Arranged, Arranger, arranged
from clipcurate.training.world import World


@dataclass
class TrainState:
    """All that a step changes; `step` counts the steps taken, `replaced` the broken images."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    replaced: int = 0

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device


@dataclass(frozen=True)
class StepRecord:
    """What one step was like. `step` counts from 1; `logit_scale` is the factor, not its log.

    `digest` stands for the set of (image, text) pairs of the step, over all ranks and in no order:
    the sum modulo 2⁶⁴ of a hash of each, as 16 hex digits.
    """

    step: int
    loss: float
    lr: float
    logit_scale: float
    grad_norm: float
    digest: str


@dataclass(frozen=True)
class TakenStep:
    """A step that the device has been told to take. `step` counts from 1, `digest` is all ranks'.

    `flops` are the model FLOPs of this rank's share; 0 where the device's peak is not known.

    `figures` is float64 on the device: step, loss, gradient norm and whether they are not finite,
    of the first step that is not, else of this one; then the logit scale.
    """

    step: int
    lr: float
    digest: str
    flops: int
    figures: Tensor

    def read(self) -> StepRecord:
        """Wait for the step and return its record.

        Raises:
            TrainingError: a loss or gradient was not finite; the weights are those before it.
        """
        step, loss, norm, bad, scale = self.figures.tolist()
        if bad:
            raise TrainingError(
                f"step {step:.0f}: loss {loss}, gradient norm {norm}; the last checkpoint is "
                "sound; train again with a lower lr, a longer warmup_steps, or grad_clip"
            )
        return StepRecord(self.step, loss, self.lr, scale, norm, self.digest)


def initial_state(config: TrainConfig, device: str) -> TrainState:
    """Return the state before the first step: a function of the settings alone."""
    model = create_model(config.model, config.seed, device)
    return TrainState(model, create_optimizer(model, config.optim))


def train_steps(
    state: TrainState, batches: Iterable[Batch], config: TrainConfig, world: World | None = None
) -> Iterator[TakenStep]:
    """Take one step per batch, in place, and yield it.

    Args:
        state: what the steps change; on every rank the same.
        batches: this rank's share of each global batch.
        config: all settings.
        world: the processes that train together; None for this one alone.

    Raises:
        InvalidInputError: the model normalises over the batch, which is to be split.
    """
    stepper = _Stepper(state, config, world or World())
    for batch in arranged(batches, stepper.arranger, state.device):
        yield stepper.take(batch)


def as_int64(number: int) -> int:
    """Return the int64 that is congruent to a 64-bit number: sums of either agree modulo 2⁶⁴."""
    return number - (number >> 63 << 64)


class _Stepper:
    """Takes steps: forward, backward, guard, optimiser, clamp."""

    def __init__(self, state: TrainState, config: TrainConfig, world: World) -> None:
        compute = config.compute
        self.arranger = Arranger(trimmer_of(state.model), compute.micro_batch, compute.text_groups)
        refuse_coupled(state.model, config, world)
        self._state = state
        self._config = config
        self._world = world
        self._towers = world.wrapped(Towers(state.model, compute))
        self._loss_function = contrastive_loss(world)
        self._dtype = next(state.model.parameters()).dtype
        self._guard = torch.zeros(4, dtype=torch.float64, device=state.device)
        self._flops = ModelFlops(config.model) if peak_of(state.device) else None
        state.model.train()

    def take(self, batch: Arranged) -> TakenStep:
        """Take one step with this rank's share of a batch."""
        state, config = self._state, self._config
        state.optimizer.zero_grad(set_to_none=True)
        inputs = Inputs(batch.images, batch.texts, batch.parts, self._dtype)
        seed = (config.seed, state.step, self._world.rank)
        loss = add_gradients(self._towers, inputs, self._loss_function, seed)
        norm = gradient_norm(state.model, config.optim.grad_clip)
        lr = learning_rate(config, state.step)
        state.step += 1
        replaced, digest = self._world.totals([batch.replaced, as_int64(batch.digest)])
        state.replaced += replaced
        self._step_if_finite(self._world.mean(loss), norm, lr)
        scale = state.model.logit_scale.detach().exp()  # type: ignore[operator]
        figures = torch.cat([self._guard, scale.double().reshape(1)])
        return TakenStep(
            state.step, lr, f"{digest % 2**64:016x}", self._model_flops(batch), figures
        )

    def _model_flops(self, batch: Arranged) -> int:
        if self._flops is None:
            return 0
        return self._flops.pairs(len(batch.images), (group.shape for group in batch.texts.groups))

    def _step_if_finite(self, loss: Tensor, norm: Tensor, lr: float) -> None:
        """Let the fused kernel itself skip the step, so that nobody waits to find out."""
        optimizer = self._state.optimizer
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        number = torch.full_like(self._guard[0], self._state.step)
        now = torch.stack([number, loss.double(), norm.double(), bad.double()])
        self._guard = torch.where(self._guard[3] > 0, self._guard, now)
        optimizer.found_inf = self._guard[3].float()  # type: ignore[attr-defined]
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        clamp_logit_scale(self._state.model)
