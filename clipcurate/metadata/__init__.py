"""The entries: loading them, and the fingerprint that names them."""

from clipcurate.metadata.entries import ALL, Metadata
from clipcurate.metadata.files import load

__all__ = ["ALL", "Metadata", "load"]
