"""Tables on disk: a safetensors file, mapped into memory when read.

All processes of a machine that map one file share its pages. The header's metadata say what the
tables are and hold a hash of that, of their names, types and shapes, and of all their bytes, which
is checked.
"""

import json
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from safetensors.numpy import save_file

from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.hashing import canonical_json, hash_bytes, hash_json
from clipcurate.kernels.entry import STAMP

_SOURCES = [Path(__file__).with_name(name) for name in ("rules.py", "token_trie.py")]
FORMAT = f"2-{hash_bytes(STAMP.encode(), *(file.read_bytes() for file in _SOURCES))[:16]}"
"""Changes with all code that gives the tables their meaning."""

Arrays = Mapping[str, npt.NDArray[Any]]

_TYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "I64": np.int64}
_LENGTH = struct.Struct("<Q")
_ABOUT = "clipcurate"


def tables_key(fingerprint: str, rule: str, engine: str) -> str:
    """Return the name of the tables for a metadata fingerprint: 32 hex digits.

    Tables of one key are the same bytes, whoever builds them.
    """
    return hash_json({"format": FORMAT, "metadata": fingerprint, "rule": rule, "engine": engine})


def write(path: str | Path, arrays: Arrays, about: Mapping[str, str]) -> None:
    """Write arrays and what they are."""
    whole = {**about, "format": FORMAT}
    whole["hash"] = _hash(arrays, whole)
    save_file(dict(arrays), str(path), metadata={_ABOUT: json.dumps(whole, sort_keys=True)})


def read(path: str | Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Map a file that `write` wrote; returns read-only arrays and what they are.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: it is damaged, something else, or of another format.
    """
    try:
        with Path(path).open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = _LENGTH.unpack_from(content)
        start = _LENGTH.size + length
        header = json.loads(content[_LENGTH.size : start])
        about = json.loads(header.pop("__metadata__")[_ABOUT])
        arrays = {name: _view(content, start, tensor) for name, tensor in header.items()}
        known, stored = about["format"], about.pop("hash")
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except (struct.error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{path}: not a saved matcher ({error})") from error
    if known != FORMAT:
        raise InvalidInputError(
            f"{path}: format {known}, this version reads {FORMAT}; build it anew"
        )
    if stored != _hash(arrays, about):
        raise InvalidInputError(f"{path}: not a saved matcher (its bytes changed); build it anew")
    return arrays, about


def _view(content: mmap.mmap, start: int, tensor: dict[str, Any]) -> npt.NDArray[Any]:
    """Return one tensor of a safetensors file without copying it."""
    first, end = tensor["data_offsets"]
    kind = np.dtype(_TYPES[tensor["dtype"]])
    if start + end > len(content):
        raise ValueError("it ends too early")
    flat = np.frombuffer(content, kind, (end - first) // kind.itemsize, start + first)
    return flat.reshape(tensor["shape"])


def _hash(arrays: Arrays, about: Mapping[str, str]) -> str:
    shapes = {name: [array.dtype.str, *array.shape] for name, array in arrays.items()}
    state = xxhash.xxh3_128(canonical_json([shapes, dict(about)]))
    for name in sorted(arrays):
        state.update(np.ascontiguousarray(arrays[name]).data)
    return state.hexdigest()
