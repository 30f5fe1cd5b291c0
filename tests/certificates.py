"""Real certificates, of an authority of the tests' own, in files as services want them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

FILES = {"certificate": "tls.crt", "key": "tls.key", "authority": "ca.crt"}


@dataclass
class Authority:
    """Signs certificates, and writes each into a folder of its own below `folder`."""

    folder: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    def issue(self, name: str, *names: str, into: str = "", lifetime: float = 3600.0) -> Path:
        """Write a certificate for a service of this name on this machine; return its folder.

        A lifetime below 0 is over. Files are replaced as Kubernetes does it: all at once.
        """
        now = datetime.now(UTC)
        ends = now + timedelta(seconds=lifetime)
        begins = min(now, ends) - timedelta(hours=1)
        signed = self.ca.issue_cert(
            name, "localhost", "127.0.0.1", *names, not_before=begins, not_after=ends
        )
        pems = {
            "certificate": signed.cert_chain_pems[0].bytes(),
            "key": signed.private_key_pem.bytes(),
            "authority": self.ca.cert_pem.bytes(),
        }
        return publish(self.folder / (into or name), pems)


def publish(folder: Path, pems: dict[str, bytes]) -> Path:
    """Swap a link to a folder with these files, as Kubernetes does with a volume's `..data`."""
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    for name, pem in pems.items():
        (version / FILES[name]).write_bytes(pem)
    fresh = folder / "..fresh"
    fresh.symlink_to(version.name)
    fresh.replace(folder / "..data")
    for file in FILES.values():
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(f"..data/{file}")
    return folder


def settings_of(folder: Path) -> dict[str, Any]:
    """The TLS settings that name the files of a folder."""
    return {f"tls_{name}": folder / file for name, file in FILES.items()}
