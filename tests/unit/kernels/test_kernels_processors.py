"""Kernels for a processor that this one is not are refused in words."""

from pathlib import Path

import pytest

from clipcurate.errors import ProcessorError
from clipcurate.kernels.processors import flags_here, require


def flags(words: str) -> frozenset[str]:
    return frozenset(words.split())


NEHALEM = flags("fpu sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm")
HASWELL = NEHALEM | flags("fma movbe xsave avx f16c abm bmi1 avx2 bmi2")
SKYLAKE_X = HASWELL | flags("avx512f avx512dq avx512cd avx512bw avx512vl")


def test_a_level_is_taken_from_its_first_processors_on() -> None:
    require("x86-64-v2", NEHALEM)
    require("x86-64-v3", HASWELL)
    for level in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"):
        require(level, SKYLAKE_X)


@pytest.mark.parametrize(
    ("cpu", "found", "lacks", "remedy"),
    [
        ("x86-64-v4", HASWELL, "avx512bw, avx512cd, avx512dq, avx512f, avx512vl", "x86-64-v3"),
        ("x86-64-v3", HASWELL - {"avx2"}, "avx2", "x86-64-v2"),
        ("x86-64-v4", SKYLAKE_X - {"bmi2", "abm"}, "abm, bmi2", "x86-64-v2"),
        ("x86-64-v2", NEHALEM - {"popcnt"}, "popcnt", "x86-64"),
    ],
)
def test_below_its_level_it_is_said_what_lacks_and_what_to_do(
    cpu: str, found: frozenset[str], lacks: str, remedy: str
) -> None:
    with pytest.raises(ProcessorError) as refused:
        require(cpu, found)
    assert str(refused.value) == (
        f"kernels were compiled for {cpu}, and this processor lacks {lacks}:"
        f" build the image with KERNELS_CPU={remedy}"
    )


def test_where_nothing_is_known_nothing_is_refused() -> None:
    require("x86-64-v4", frozenset())
    for cpu in ("generic", "skylake", "neoverse-n1"):
        require(cpu, NEHALEM)


def test_flags_are_those_of_linux(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("vmx flags\t: ept\nflags\t\t: fpu avx2\n\nflags\t\t: fpu avx2\n")
    assert flags_here(file) == {"fpu", "avx2"}
    file.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert flags_here(file) == frozenset()
    assert flags_here(tmp_path / "none") == frozenset()
