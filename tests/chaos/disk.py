"""A small file system that can be full, or read-only."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_until

MEGABYTES = 256
"""Room for the log that Redis rewrites once it has doubled."""


@dataclass(frozen=True)
class Disk:
    """A folder; `own` if it is a file system of its own, which takes the right to mount."""

    folder: Path
    own: bool

    @classmethod
    def mounted(cls, folder: Path) -> "Disk":
        """Make a folder, as a file system of its own where that is allowed."""
        folder.mkdir(parents=True)
        options = ["-t", "tmpfs", "-o", f"size={MEGABYTES}m"]
        return cls(folder, _succeeds("mount", *options, "none", folder))

    def unmount(self) -> None:
        """Let go of the file system."""
        if self.own:
            assert _succeeds("umount", "--lazy", self.folder)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Leave no space while the block runs."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        try:
            yield
        finally:
            ballast.unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse writing while the block runs. Files that are being written delay its beginning."""
        wait_until(
            lambda: _succeeds("mount", "-o", "remount,bind,ro", self.folder), 30, "read-only"
        )
        try:
            yield
        finally:
            assert _succeeds("mount", "-o", "remount,bind,rw", self.folder)


def _succeeds(*command: object) -> bool:
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    return done.returncode == 0
