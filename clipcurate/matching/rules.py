"""When an entry occurs in a text: the published rules, to the letter.

`metaclip1`: the text gets a space at both ends; each of `, . ; : ? ! `` ` `` gets one on both
sides; each tab, newline and carriage return becomes one. An entry matches iff it occurs there with
a space on both sides. Nothing else: case, Unicode forms, runs of spaces and other marks stay as
they are. (MetaCLIP, ICLR 2024, section 3.2; its published matching code.)

`metaclip2`: the same, but the text is stripped first, and an entry needs no space on an edge whose
character is *open*: ASCII punctuation, East Asian marks, Han, Thai, Lao, Burmese, Khmer, Tibetan.
(Meta CLIP 2, 2025; its published matching code.)
"""

import string
from dataclasses import dataclass

MARKS = ",.;:?!`"

_SPACING = str.maketrans({**{mark: f" {mark} " for mark in MARKS}, "\t": " ", "\n": " ", "\r": " "})

_OPEN_MARKS = string.punctuation + "，。、；：？！“”‘’（）【】《》〈〉「」『』～—"
_OPEN_BLOCKS = (
    (0x4E00, 0x9FFF),  # Han, and its extensions and radicals
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2CEB0, 0x2EBEF),
    (0xF900, 0xFAFF),
    (0x2E80, 0x2EFF),
    (0x2F00, 0x2FDF),
    (0x2FF0, 0x2FFF),
    (0x0E00, 0x0E7F),  # Thai
    (0x0E80, 0x0EFF),  # Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x0F00, 0x0FFF),  # Tibetan
)


@dataclass(frozen=True)
class Rule:
    """A rule: an entry occurs in a text iff its spaced form is a substring of the text's.

    Attributes:
        strips: the text is stripped first.
        open_characters: those that need no space beside them at an entry's edge.
    """

    strips: bool
    open_characters: frozenset[str]

    def spaced_text(self, text: str) -> str:
        """Return the text in which entries are looked up."""
        return f" {text.strip() if self.strips else text} ".translate(_SPACING)

    def spaced_entry(self, entry: str) -> str:
        """Return the string whose occurrence in a spaced text is a hit of a non-empty entry."""
        before = "" if entry[0] in self.open_characters else " "
        after = "" if entry[-1] in self.open_characters else " "
        return f"{before}{entry}{after}"


_OPEN = frozenset(_OPEN_MARKS) | frozenset(
    chr(code) for first, last in _OPEN_BLOCKS for code in range(first, last + 1)
)

RULES = {"metaclip1": Rule(False, frozenset()), "metaclip2": Rule(True, _OPEN)}
"""Rules by name, the default first."""
