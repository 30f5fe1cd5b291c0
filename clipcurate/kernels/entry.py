"""The kernels that Python calls, with the types that they take.

Each comes from one of two places. A module that was compiled ahead of time, which container images
have, needs neither numba nor a compiler (see `clipcurate.kernels.ahead`). Elsewhere numba compiles
a kernel on its first call. Either way types are checked before: compiled code takes any bytes for
those that it was made for.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from clipcurate.kernels import processors

_FILES = sorted(Path(__file__).parents[1].glob("**/kernels/*.py"))
STAMP = hashlib.sha256(b"".join(file.read_bytes() for file in _FILES)).hexdigest()
"""Changes with every kernel."""

_PACKAGE = "clipcurate.kernels"
_AHEAD = f"ahead_{STAMP[:16]}_"


def ahead_of_time(cpu: str) -> str:
    """Return the name of the module of these very kernels that is compiled for a processor."""
    return _AHEAD + cpu.replace("-", "_")


class Parameter(Protocol):
    """What a kernel takes in one place."""

    def take(self, value: Any) -> Any:
        """Return the value as the kernel wants it, or raise TypeError."""


@dataclass(frozen=True)
class Array:
    """A numpy array in C order."""

    dtype: type[np.generic]
    ndim: int = 1

    def take(self, value: Any) -> Any:
        """Return the array as it is: a copy would hide what a kernel writes to it."""
        flags = value.flags
        if value.dtype != self.dtype or value.ndim != self.ndim:
            raise TypeError(f"an array is {value.dtype}, {value.ndim}-dimensional, not {self}")
        if not (flags.c_contiguous and flags.aligned):
            raise TypeError(f"an array is not contiguous, or not aligned, and must be {self}")
        return value


@dataclass(frozen=True)
class Number:
    """A number of one of numpy's types."""

    type: type[np.generic]

    def take(self, value: Any) -> Any:
        """Return the number in its type."""
        return self.type(value)


@dataclass(frozen=True)
class Record:
    """A named tuple of arrays."""

    type: type[tuple[Any, ...]]
    fields: tuple[Array, ...]

    def take(self, value: Any) -> Any:
        """Return the tuple as it is."""
        for field, array in zip(self.fields, value, strict=True):
            field.take(array)
        return value


U8, U32, U64 = Array(np.uint8), Array(np.uint32), Array(np.uint64)
I64, F64 = Array(np.int64), Array(np.float64)


class Entry:
    """A kernel that Python calls; raises TypeError if an array is not what it takes."""

    def __init__(
        self, path: str, *parameters: Parameter, returns: Array | Number | None = None
    ) -> None:
        self.module, _, self.name = path.rpartition(".")
        self.parameters = parameters
        self.returns = returns

    def __call__(self, *args: Any) -> Any:
        """Run the kernel without the interpreter's lock."""
        return self._function(
            *(parameter.take(arg) for parameter, arg in zip(self.parameters, args, strict=True))
        )

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return getattr(compiled_ahead() or import_module(self.module), self.name)  # type: ignore[no-any-return]

    def source(self) -> Callable[..., Any]:
        """Return the function that is compiled; this needs numba."""
        return getattr(import_module(self.module), self.name).py_func  # type: ignore[no-any-return]


@cache
def compiled_ahead() -> ModuleType | None:
    """Return the module of these very kernels, compiled ahead of time, if there is one.

    Raises:
        ProcessorError: this processor does not run it.
    """
    names = (module.name for module in iter_modules(import_module(_PACKAGE).__path__))
    name = next((name for name in names if name.startswith(_AHEAD)), None)
    if name is None:
        return None
    cpu = name.removeprefix(_AHEAD).replace("_", "-")
    processors.require(cpu, processors.flags_here())
    return import_module(f"{_PACKAGE}.{name}")


def entries() -> dict[str, Entry]:
    """Return all kernels that Python calls, by name."""
    root = Path(__file__).parents[2]
    packages = sorted(root.glob("clipcurate/**/kernels/__init__.py"))
    modules = [import_module(".".join(file.parent.relative_to(root).parts)) for file in packages]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Entry)
    }
