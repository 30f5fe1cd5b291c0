from fnmatch import fnmatchcase

import pytest

from services.counter.store import literal, run_prefix


@pytest.mark.parametrize("text", ["a*", "a?", "[ab]", "[^a]", "a-b", "a\\b", "{a}:"])
def test_every_mark_of_a_pattern_is_escaped(text: str) -> None:
    assert "".join(_unescaped(literal(text))) == text


def _unescaped(pattern: str) -> list[str]:
    """Read a pattern as Redis does: after a backslash, the next character is itself."""
    characters, found = iter(pattern), []
    for character in characters:
        assert character not in "*?["
        found.append(next(characters) if character == "\\" else character)
    return found


def test_an_ordinary_run_is_searched_by_its_prefix() -> None:
    prefix = run_prefix("4a588c64")
    assert literal(prefix) == prefix
    assert fnmatchcase(prefix + "task:1::0", literal(prefix) + "*")
