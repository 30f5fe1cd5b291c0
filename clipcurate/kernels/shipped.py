"""Kernels that were compiled when a container image was built.

numba looks for compiled code only where it may also write, and an image's file system is read-only.
So CLIPCURATE_KERNELS names the image's folder, and NUMBA_CACHE_DIR a writable one that is empty at
first. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES must be those of the build, or numba compiles anew.
"""

import os
import tempfile
from pathlib import Path

SHIPPED, CACHE = "CLIPCURATE_KERNELS", "NUMBA_CACHE_DIR"


def copy_shipped() -> None:
    """Copy what the image ships to where numba looks, file by file; leave what is there."""
    shipped, cache = os.environ.get(SHIPPED), os.environ.get(CACHE)
    if not shipped or not cache:
        return
    for file in Path(shipped).glob("*/*.nb?"):
        target = Path(cache) / file.relative_to(shipped)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_at_once(file, target)


def _copy_at_once(file: Path, target: Path) -> None:
    """Other processes of the container may copy, or look, at the same time."""
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
        part.write(file.read_bytes())
    Path(part.name).replace(target)
