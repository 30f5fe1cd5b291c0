"""Texts without their padding, where that changes no number.

In a causal text tower that pools at the end of text, no token sees what comes after it: the padding
behind the end of text can be cut. Captions average 13.5 of 77 tokens, but one in a batch is long.
So a batch's texts are sorted by length and cut in groups, each to one of few static lengths.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipcurate.training.compat import open_clip

# Few, so that kernels compiled per shape are reused; dense where captions are.
LENGTHS = (8, 12, 16, 24, 32, 48)

# Fewer texts than this make a group too small for a processor's vector units to notice.
MIN_GROUP = 16

POOLED_AT_END = ("argmax", "eos")


@dataclass(frozen=True)
class Texts:
    """A batch's texts, arranged.

    `groups` are int64 tokens of shape (n_i, length_i), Σ n_i = n. Row k of their concatenation is
    text `order[k]` of the batch; `inverse` sends the rows back. None: the order is the batch's.
    """

    groups: tuple[Tensor, ...]
    inverse: Tensor | None = None

    def restored(self, rows: Tensor) -> Tensor:
        """Return rows that belong to the concatenated groups in the batch's order."""
        return rows if self.inverse is None else rows.index_select(0, self.inverse)

    def to(self, device: torch.device) -> "Texts":
        """Return a copy on `device`; from pinned memory without waiting."""
        inverse = None if self.inverse is None else self.inverse.to(device, non_blocking=True)
        return Texts(tuple(g.to(device, non_blocking=True) for g in self.groups), inverse)

    def pinned(self) -> "Texts":
        """Return a copy in page-locked memory."""
        inverse = None if self.inverse is None else self.inverse.pin_memory()
        return Texts(tuple(group.pin_memory() for group in self.groups), inverse)


@dataclass(frozen=True)
class Trimmer:
    """How texts may be cut: `pool_type` is that of a causal tower; None: they may not."""

    pool_type: str | None
    eos_id: int = 0

    def arrange(self, tokens: Tensor, parts: int, groups: int) -> Texts:
        """Split texts into `parts` of near equal number, each into up to `groups` by length.

        Args:
            tokens: int64 of shape (n, context length).
            parts: micro-batches; the groups of each are consecutive.
            groups: per part; 0 leaves order and length as they are.

        Returns:
            `parts` times the same number of groups.
        """
        if groups == 0 or self.pool_type is None:
            return Texts(tokens.tensor_split(parts))
        needed = self.ends(tokens) + 1
        order = needed.argsort(stable=True)
        groups = max(1, min(groups, len(tokens) // parts // MIN_GROUP))
        pieces = order.tensor_split(parts * groups)
        cut = (_static_length(int(needed[rows[-1:]].sum()), tokens.shape[1]) for rows in pieces)
        trimmed = (tokens[rows, :length] for rows, length in zip(pieces, cut, strict=True))
        return Texts(tuple(group.contiguous() for group in trimmed), order.argsort())

    def ends(self, tokens: Tensor) -> Tensor:
        """Return the position that each row is pooled at, as open_clip's `text_global_pool`."""
        if self.pool_type == "eos":
            return (tokens == self.eos_id).int().argmax(dim=1)
        return tokens.argmax(dim=1)


def trimmer_of(model: nn.Module) -> Trimmer:
    """Return how a model's texts may be cut: not at all, unless that is exact.

    Not where tokens see later ones (SigLIP, CLIPA, some MobileCLIPs), where the last position or
    an appended class token is pooled (CoCa), nor with a tower of Hugging Face's, whose positions
    and masks are its own.
    """
    tower = _text_tower(model)
    if tower is None or getattr(tower, "attn_mask", None) is None:
        return Trimmer(None)
    pool_type, eos_id = _pooling(tower)
    has_class_token = getattr(tower, "cls_emb", None) is not None
    exact = pool_type in POOLED_AT_END and not has_class_token
    return Trimmer(pool_type if exact else None, eos_id)


def encode_text(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return open_clip's text features, shape (n, dimensions), also for texts that were cut."""
    trimmer, tower = trimmer_of(model), _text_tower(model)
    if trimmer.pool_type is None or tower is None:
        encoded: Tensor = model.encode_text(tokens)  # type: ignore[operator]
        return encoded
    hidden, rows = _transformed(tower, tokens), torch.arange(len(tokens), device=tokens.device)
    pooled = tower.ln_final(hidden[rows, trimmer.ends(tokens)])
    return _projected(tower.text_projection, pooled)


def _transformed(tower: Any, tokens: Tensor) -> Tensor:
    length, dtype = tokens.shape[1], tower.transformer.get_cast_dtype()
    embedded = tower.token_embedding(tokens).to(dtype)
    positioned = embedded + tower.positional_embedding[:length].to(dtype)
    hidden: Tensor = tower.transformer(positioned, attn_mask=tower.attn_mask[:length, :length])
    return hidden


def _projected(projection: Any, pooled: Tensor) -> Tensor:
    if projection is None:
        return pooled
    projected: Tensor = (
        projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    )
    return projected


def _text_tower(model: nn.Module) -> Any:
    """Return the module that holds the text tower's parts; None if it is not open_clip's own."""
    if isinstance(model, open_clip.CLIP):
        return model
    text = getattr(model, "text", None)
    return text if isinstance(text, open_clip.transformer.TextTransformer) else None


def _pooling(tower: Any) -> tuple[str, int]:
    if isinstance(tower, open_clip.CLIP):
        return str(tower.text_pool_type), int(tower.text_eos_id)
    return str(tower.pool_type), int(tower.eos_id)


def _static_length(needed: int, full: int) -> int:
    return min((length for length in LENGTHS if needed <= length < full), default=full)
