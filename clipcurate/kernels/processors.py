"""Which processors run what was compiled ahead of time for which.

A processor that lacks an instruction ends its process with SIGILL, which says nothing.
"""

from pathlib import Path

from clipcurate.errors import ProcessorError

LEVELS = {
    "x86-64": "",
    "x86-64-v2": "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3",
    "x86-64-v3": "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave",
    "x86-64-v4": "avx512bw avx512cd avx512dq avx512f avx512vl",
}
"""What each level has over the one before it, as Linux calls it (x86-64 psABI, table 3.1)."""


def require(cpu: str, flags: frozenset[str]) -> None:
    """Raise ProcessorError if `cpu` is a level, and a processor with these flags is below it.

    Only LLVM knows what other names stand for, and only Linux tells what this processor has, so
    another name is taken, and so is any where there are no flags.
    """
    lacks = _lacking(cpu, flags)
    if flags and lacks:
        runs = [level for level in LEVELS if not _lacking(level, flags)]
        raise ProcessorError(
            f"kernels were compiled for {cpu}, and this processor lacks {', '.join(lacks)}:"
            f" build the image with KERNELS_CPU={runs[-1]}"
        )


def _lacking(cpu: str, flags: frozenset[str]) -> list[str]:
    """Return what a level has, those before it included, and the flags do not."""
    if cpu not in LEVELS:
        return []
    levels = list(LEVELS)[: list(LEVELS).index(cpu) + 1]
    return sorted({name for level in levels for name in LEVELS[level].split()} - flags)


def flags_here(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what Linux says that this processor has; nothing on other systems."""
    if not path.exists():
        return frozenset()
    lines = (line.partition(":") for line in path.read_text().splitlines())
    found = (value.split() for key, _, value in lines if key.strip() == "flags")
    return frozenset(next(found, ()))
