"""The rule `metaclip1`: when an entry occurs in a text.

The text gets a space at both ends; each of `, . ; : ? ! `` ` `` gets one on both sides; each tab,
newline and carriage return becomes one. An entry matches iff it occurs there with a space on both
sides. Nothing else: case, Unicode forms, runs of spaces and other marks stay as they are.
(MetaCLIP, ICLR 2024, section 3.2; its published matching code.)
"""

MARKS = ",.;:?!`"

_SPACING = str.maketrans({**{mark: f" {mark} " for mark in MARKS}, "\t": " ", "\n": " ", "\r": " "})


def spaced_text(text: str) -> str:
    """Return the text in which entries are looked up."""
    return f" {text} ".translate(_SPACING)


def spaced_entry(entry: str) -> str:
    """Return the string whose occurrence in a spaced text is a hit of `entry`."""
    return f" {entry} "
