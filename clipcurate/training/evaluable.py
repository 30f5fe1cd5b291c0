"""Whether there may be something to evaluate on at a URL. Needs no torch."""

from clipcurate import storage
from clipcurate.errors import InvalidInputError


def require_something(url: str) -> None:
    """Refuse a mistyped URL at once. Raises InvalidInputError: there is nothing at `url`."""
    if not storage.exists(url):
        raise InvalidInputError(
            f"{url}: nothing to evaluate on; name an emitted dataset, tars, a zip archive, or a "
            "folder of images per class"
        )
