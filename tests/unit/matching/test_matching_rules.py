from hypothesis import given
from hypothesis import strategies as st

from clipcurate.matching.rules import MARKS, spaced_entry, spaced_text


def test_the_seven_marks() -> None:
    assert MARKS == ",.;:?!`"


def test_spacing_by_hand() -> None:
    assert spaced_text("a, b") == " a ,  b "
    assert spaced_text("Hi!?") == " Hi !  ?  "
    assert spaced_text("a\tb\nc\rd") == " a b c d "
    assert spaced_text("") == "  "
    assert spaced_entry("new york") == " new york "


@given(st.text(st.sampled_from(",.;:?!`\t\n\r ab"), max_size=12) | st.text(max_size=12))
def test_one_pass_equals_the_published_steps_in_order(text: str) -> None:
    steps = f" {text} "
    for mark in [",", ".", ";", ":", "?", "!", "`"]:
        steps = steps.replace(mark, f" {mark} ")
    for blank in ["\t", "\n", "\r"]:
        steps = steps.replace(blank, " ")
    assert spaced_text(text) == steps
