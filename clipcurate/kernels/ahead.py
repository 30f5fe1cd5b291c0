"""Compiles all kernels that Python calls into one module, for machines without numba.

    python -m clipcurate.kernels.ahead --cpu x86-64-v3

That needs numba, setuptools and a C compiler; what comes out needs numpy alone. numba's own way to
do it, `numba.pycc`, would hold the interpreter's lock.
"""

import argparse
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numba import config, types
from numba.core.compiler import Flags
from numba.core.errors import NumbaPendingDeprecationWarning
from numba.core.typing.templates import Signature
from numba.np.numpy_support import from_dtype

from clipcurate.kernels.entry import Array, Entry, Number, Parameter, Record, ahead_of_time, entries

with warnings.catch_warnings():  # "replacement technology is being developed", since 2023
    warnings.simplefilter("ignore", NumbaPendingDeprecationWarning)
    from numba.pycc import CC, compiler

_TARGET = """
import sys
from llvmlite import binding
binding.initialize_native_target()
binding.Target.from_default_triple().create_target_machine(cpu=sys.argv[1])
"""


def build(folder: Path, cpu: str) -> Path:
    """Compile the kernels for a processor, by LLVM's name; return the module's file."""
    config.CPU_NAME, config.CPU_FEATURES = cpu, ""  # of the functions that the kernels call
    compiler.Flags = _unlocked
    module = CC(ahead_of_time(cpu))
    module.output_dir, module.target_cpu = str(folder), cpu
    for name, entry in sorted(entries().items()):
        module.export(name, _signature(entry))(entry.source())
    module.compile()
    return folder / str(module.output_file)


def _unlocked() -> Flags:
    """Return how pycc compiles, and without the interpreter's lock."""
    flags = Flags()
    flags.release_gil = True
    return flags


def _signature(entry: Entry) -> Signature:
    returns = types.void if entry.returns is None else _type(entry.returns)
    return returns(*map(_type, entry.parameters))


def _type(parameter: Parameter) -> Any:
    match parameter:
        case Array(dtype, ndim):
            return types.Array(_type(Number(dtype)), ndim, "C")
        case Number(kind):
            return from_dtype(np.dtype(kind))
        case Record(kind, fields):
            return types.NamedTuple([_type(field) for field in fields], kind)
    raise TypeError(parameter)


def _known(cpu: str) -> str:
    """Return the name of a processor; refuse one that LLVM would take for `generic`.

    All that LLVM does about such a name is a line on its process's standard error.
    """
    command = [sys.executable, "-c", _TARGET, cpu]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True)
    if not cpu or "not a recognized processor" in done.stderr:
        raise argparse.ArgumentTypeError(
            f"LLVM knows no processor {cpu!r}: name a level (x86-64-v3), or generic"
        )
    return cpu


def main() -> None:
    """Compile the kernels to where `clipcurate` finds them."""
    parser = argparse.ArgumentParser(prog="python -m clipcurate.kernels.ahead")
    parser.add_argument(
        "--cpu", type=_known, required=True, help="oldest processor to run on, by LLVM's name"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder")
    args = parser.parse_args()
    print(f"==> compiling kernels for {args.cpu}")
    print(build(args.output, args.cpu))


if __name__ == "__main__":
    main()
