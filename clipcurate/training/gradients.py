"""The gradient of a whole batch's contrastive loss, in as much memory as one micro-batch takes.

Every pair's loss depends on every other pair's features, so gradients of micro-batches cannot just
be added. As in GradCache (Gao et al. 2021, arXiv 2101.06983): features of all micro-batches first,
without graphs; the loss and its gradient with respect to the features; then each micro-batch again,
with a graph, from its features' gradients. The sum is the gradient of one big batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clipcurate.errors import InvalidInputError
from clipcurate.hashing import hash_json
from clipcurate.training.compat import open_clip
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import normalise
from clipcurate.training.text import Texts
from clipcurate.training.world import World, unsynced, unwrapped

Features = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Inputs:
    """One rank's share of a batch on its device.

    `images` is uint8 of shape (b, H, W, 3); `texts` has the same number of groups for each of
    `parts` micro-batches; `dtype` is that of the weights.
    """

    images: Tensor
    texts: Texts
    parts: int = 1
    dtype: torch.dtype = torch.float32

    def part(self, number: int) -> tuple[Tensor, ...]:
        """Return normalised images and groups of texts of one micro-batch."""
        per_part = len(self.texts.groups) // self.parts
        groups = self.texts.groups[number * per_part : (number + 1) * per_part]
        images = normalise(self.images.tensor_split(self.parts)[number])
        return (images.to(self.dtype), *groups)


def contrastive_loss(world: World) -> nn.Module:
    """Return open_clip's loss: local rows against all columns, whose gradients travel back."""
    loss: nn.Module = open_clip.ClipLoss(
        local_loss=True, gather_with_grad=True, rank=world.rank, world_size=world.size
    )
    return loss


def add_gradients(
    towers: nn.Module, inputs: Inputs, loss_function: nn.Module, seed: tuple[int, ...]
) -> Tensor:
    """Add the gradient of the batch's loss to the parameters' and return the (local) loss.

    Args:
        towers: `model.Towers`, wrapped by `World.wrapped`.
        inputs: this rank's share.
        loss_function: see `contrastive_loss`.
        seed: what randomness inside the towers (dropout, say) is drawn from.
    """
    if inputs.parts == 1:
        loss = _loss(_encoded(towers, inputs, 0, seed), inputs.texts, loss_function)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    cached = _cached(towers, inputs, seed)
    loss = _loss(cached, inputs.texts, loss_function)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = tuple(leaf.grad for leaf in cached if leaf.grad is not None)
    _add_from_features(towers, inputs, gradients, seed)
    return loss.detach()


def _encoded(towers: nn.Module, inputs: Inputs, number: int, seed: tuple[int, ...]) -> Features:
    torch.manual_seed(int(hash_json([*seed, number])[:16], 16))
    features: Features = towers(*inputs.part(number))
    return features


def _loss(features: Features, texts: Texts, loss_function: nn.Module) -> Tensor:
    image, text, scale = features
    loss: Tensor = loss_function(image, texts.restored(text), scale)
    return loss


def _cached(towers: nn.Module, inputs: Inputs, seed: tuple[int, ...]) -> Features:
    with torch.no_grad():
        bare = unwrapped(towers)
        encoded = [_encoded(bare, inputs, number, seed) for number in range(inputs.parts)]
    image, text, scales = zip(*encoded, strict=True)
    leaves = (torch.cat(image), torch.cat(text), scales[0].clone())
    return tuple(leaf.requires_grad_() for leaf in leaves)  # type: ignore[return-value]


def _add_from_features(
    towers: nn.Module, inputs: Inputs, gradients: tuple[Tensor, ...], seed: tuple[int, ...]
) -> None:
    of_images, of_texts, of_scale = gradients
    for number, of_part in enumerate(of_images.tensor_split(inputs.parts)):
        last = number == inputs.parts - 1
        with unsynced(towers, last=last):
            image, text, scale = _encoded(towers, inputs, number, seed)
            mine, of_texts = of_texts[: len(text)], of_texts[len(text) :]
            # The scale's gradient counts once; a zero keeps it in every part's graph.
            torch.autograd.backward([image, text, scale], [of_part, mine, of_scale * last])


def refuse_coupled(model: nn.Module, config: TrainConfig, world: World) -> None:
    """Refuse to split a batch whose pairs meet inside the model.

    Raises:
        InvalidInputError: batch normalisation, with micro-batches or several processes.
    """
    splits = 0 < config.compute.micro_batch < config.data.batch_size or world.size > 1
    if splits and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        raise InvalidInputError(
            f"setting model.name: {config.model.name} normalises over the batch, so a split batch "
            "has other gradients; train it in one process with micro_batch=0, or take another"
        )
