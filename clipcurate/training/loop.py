"""One optimiser step after the other: the original CLIP's recipe."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clipcurate.errors import TrainingError
from clipcurate.training.compat import open_clip
from clipcurate.training.config import OptimConfig, TrainConfig
from clipcurate.training.data import Batch, normalise
from clipcurate.training.model import clamp_logit_scale, create_model, features


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
    """What one step was like. `step` counts from 1; `logit_scale` is the factor, not its log."""

    step: int
    loss: float
    lr: float
    logit_scale: float
    grad_norm: float


def initial_state(config: TrainConfig, device: str) -> TrainState:
    """Return the state before the first step: a function of the settings alone."""
    model = create_model(config.model, config.seed, device)
    return TrainState(model, create_optimizer(model, config.optim))


def create_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return AdamW; see `decays` for what its weight decay applies to."""
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
        {
            "params": [p for name, p in named if decays(name, p)],
            "weight_decay": config.weight_decay,
        },
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)


def decays(name: str, parameter: Tensor) -> bool:
    """Say whether weight decay applies: to matrices that belong to no norm (open_clip's rule)."""
    is_matrix = parameter.ndim > 1
    return is_matrix and not any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of step `step` (from 0): a linear warm-up, then a cosine to 0."""
    warmup, peak = config.optim.warmup_steps, config.optim.lr
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (config.total_steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def train_steps(
    state: TrainState, batches: Iterable[Batch], config: TrainConfig
) -> Iterator[StepRecord]:
    """Take one step per batch, in place, and yield its record.

    Raises:
        TrainingError: the loss or the gradient is not finite; the weights are those before it.
    """
    loss_function = open_clip.ClipLoss()
    state.model.train()
    for batch in batches:
        yield _take_step(state, batch, config, loss_function)


def _take_step(
    state: TrainState, batch: Batch, config: TrainConfig, loss_function: nn.Module
) -> StepRecord:
    state.optimizer.zero_grad(set_to_none=True)
    loss = contrastive_loss(state.model, batch, loss_function)
    loss.backward()  # type: ignore[no-untyped-call]
    grad_norm = _clipped_norm(state.model, config.optim.grad_clip)
    _refuse_non_finite(state.step, loss.item(), grad_norm)
    lr = learning_rate(config, state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.step()
    clamp_logit_scale(state.model)
    state.step += 1
    state.replaced += batch.replaced
    scale = math.exp(state.model.logit_scale.item())  # type: ignore[operator]
    return StepRecord(state.step, loss.item(), lr, scale, grad_norm)


def contrastive_loss(model: nn.Module, batch: Batch, loss_function: nn.Module) -> Tensor:
    """Return the symmetric cross-entropy of a batch; features, logits and loss in float32."""
    device = next(model.parameters()).device
    images = normalise(batch.images.to(device, non_blocking=True))
    image, text = features(model, images, batch.tokens.to(device, non_blocking=True))
    loss: Tensor = loss_function(image, text, model.logit_scale.float().exp())  # type: ignore[operator]
    return loss


def _clipped_norm(model: nn.Module, limit: float) -> float:
    """Return the gradient's norm, after scaling the gradient down to `limit` if that is > 0."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm.item()


def _refuse_non_finite(step: int, loss: float, grad_norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise TrainingError(
            f"step {step + 1}: loss {loss}, gradient norm {grad_norm}; the last checkpoint is "
            "sound; train again with a lower lr, a longer warmup_steps, or grad_clip"
        )
