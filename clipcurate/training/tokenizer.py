"""CLIP's vocabulary: the token ids that open_clip's SimpleTokenizer gives, for less.

Its parts are open_clip's own (merges, pattern, cleaning), so the ids are too. What is left out is
work: cleaning that cannot change a text, merging a word again, a tensor for each text.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from clipcurate.training.compat import open_clip

# Words of English text repeat: 2^17 of them cover nearly all, in about 30 MB.
CACHED_WORDS = 2**17


class ClipTokenizer:
    """Texts to token ids of open_clip's SimpleTokenizer; safe to call from several threads."""

    def __init__(self, context_length: int) -> None:
        self._context_length = context_length
        self._simple = open_clip.SimpleTokenizer(context_length=context_length)
        self._bytes: dict[int, str] = self._simple.byte_encoder
        self._special = frozenset(self._simple.cache)
        self._word = lru_cache(CACHED_WORDS)(self._word_ids)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return ids, int64 of shape (texts, context length), padded with 0.

        A text that is too long keeps its beginning and the end-of-text token.
        """
        ids = np.zeros((len(texts), self._context_length), np.int64)
        for row, text in zip(ids, texts, strict=True):
            found = self.encode(text)[: self._context_length - 2]
            row[0] = self._simple.sot_token_id
            row[1 : len(found) + 1] = found
            row[len(found) + 1] = self._simple.eot_token_id
        return torch.from_numpy(ids)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start and end."""
        ids: list[int] = []
        for word in self._simple.pat.findall(self.cleaned(text)):
            ids += self._word(word)
        return ids

    def cleaned(self, text: str) -> str:
        """Return what open_clip's cleaning makes of a text.

        Printable ASCII without an ampersand holds nothing that ftfy or HTML unescaping changes.
        """
        if text.isascii() and text.isprintable() and "&" not in text:
            return " ".join(text.split()).lower()
        cleaned: str = self._simple.clean_fn(text)
        return cleaned

    def _word_ids(self, word: str) -> tuple[int, ...]:
        letters = "".join(self._bytes[byte] for byte in word.encode())
        ids = tuple(self._simple.encoder[part] for part in self._simple.bpe(letters).split(" "))
        if letters not in self._special:
            self._simple.cache.pop(letters, None)  # it has no bound, and the web no last word
        return ids
