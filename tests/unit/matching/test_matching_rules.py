import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.matching.rules import MARKS, RULES

ONE, TWO = RULES["metaclip1"], RULES["metaclip2"]


def test_the_seven_marks() -> None:
    assert MARKS == ",.;:?!`"


def test_spacing_by_hand() -> None:
    assert ONE.spaced_text("a, b") == " a ,  b "
    assert ONE.spaced_text("Hi!?") == " Hi !  ?  "
    assert ONE.spaced_text("a\tb\nc\rd") == " a b c d "
    assert ONE.spaced_text("") == "  "
    assert ONE.spaced_entry("new york") == " new york "
    assert ONE.spaced_entry("猫") == " 猫 "


def test_spacing_of_metaclip2_by_hand() -> None:
    assert TWO.spaced_text(" a, b\u3000") == " a ,  b "
    assert TWO.spaced_text("黒猫，") == " 黒猫， "
    assert TWO.spaced_entry("new york") == " new york "
    assert TWO.spaced_entry("猫") == "猫"
    assert TWO.spaced_entry("猫カフェ") == "猫カフェ "
    assert TWO.spaced_entry("c++") == " c++"
    assert TWO.spaced_entry("한국") == " 한국 "


@pytest.mark.parametrize(
    "ends",
    [
        *["\u4e00\u9fff", "\u3400\u4dbf", "\U00020000\U0002a6df", "\U0002a700\U0002ebef"],
        *["\uf900\ufaff", "\u2e80\u2eff", "\u2f00\u2fdf", "\u2ff0\u2fff"],
        *["\u0e00\u0e7f", "\u0e80\u0eff", "\u1000\u109f", "\u1780\u17ff", "\u0f00\u0fff"],
        *[string.punctuation, "，～—“”「」『』"],
    ],
)
def test_open_characters(ends: str) -> None:
    assert set(ends) <= TWO.open_characters


@pytest.mark.parametrize(
    "others", ["\u3040\u30ff", "\uac00\ud7a3", "\u4dc0\u4dff", "\ufb00", "aé1 \t\u3000·…", "\u2fe0"]
)
def test_closed_characters(others: str) -> None:
    assert not set(others) & TWO.open_characters


def test_metaclip1_knows_no_open_characters() -> None:
    assert not ONE.open_characters


@given(st.text(st.sampled_from(",.;:?!`\t\n\r ab"), max_size=12) | st.text(max_size=12))
def test_one_pass_equals_the_published_steps_in_order(text: str) -> None:
    steps = f" {text} "
    for mark in [",", ".", ";", ":", "?", "!", "`"]:
        steps = steps.replace(mark, f" {mark} ")
    for blank in ["\t", "\n", "\r"]:
        steps = steps.replace(blank, " ")
    assert ONE.spaced_text(text) == steps
    assert TWO.spaced_text(f"\n{text.strip()} ") == ONE.spaced_text(text.strip())
