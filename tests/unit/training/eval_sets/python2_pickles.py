"""Pickles as Python 2 wrote them, which CIFAR is published as: strings of bytes, old names."""

import io
import pickle
import struct
from typing import Any, ClassVar


class Python2Pickler(pickle._Pickler):
    """Writes protocol 2; text and bytes alike become Python 2's `str`."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        short = len(value) < 256
        opcode = pickle.SHORT_BINSTRING if short else pickle.BINSTRING
        self.write(opcode + struct.pack("<B" if short else "<i", len(value)) + value)
        self.memoize(value)

    def save_text(self, value: str) -> None:
        self.save_bytes(value.encode("latin-1"))

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{name or value.__qualname__}\n".encode())
        self.memoize(value)

    dispatch[bytes], dispatch[str] = save_bytes, save_text


def dumps(value: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(value)
    return file.getvalue()
