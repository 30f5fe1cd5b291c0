"""The entries: loading them, and the fingerprint that names them."""

from clipcurate.metadata.entries import ALL, Metadata
from clipcurate.metadata.files import load
from clipcurate.metadata.languages import load_languages, require_language_name

__all__ = ["ALL", "Metadata", "load", "load_languages", "require_language_name"]
