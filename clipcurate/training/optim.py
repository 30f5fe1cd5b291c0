"""The recipe's optimiser: AdamW, what it decays, and its rate at each step."""

import math

import torch
from torch import Tensor, nn

from clipcurate.training.config import OptimConfig, TrainConfig


def create_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return fused AdamW; see `decays` for what its weight decay applies to."""
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


def gradient_norm(model: nn.Module, limit: float) -> Tensor:
    """Return the gradient's norm, after scaling the gradient down to `limit` if that is > 0."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
