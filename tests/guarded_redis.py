"""A real Redis that wants certificates and passwords."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.certificates import FILES, Authority
from tests.conftest import ROOT
from tests.ports import free_port
from tests.redis_servers import server

REDIS = shutil.which("redis-server") or ""
"""Of a system package: those of wheels have no TLS."""
_RULES = re.search(
    r"ACL SETUSER counter on >PASSWORD (.*)",
    (ROOT / "docs" / "operations" / "security.md").read_text(),
)
assert _RULES
RIGHTS = _RULES[1]
"""As the docs have them."""


@dataclass
class Guarded:
    """The server, and its administrator's connection."""

    authority: Authority
    stranger: Authority
    port: int
    admin: Any

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}"

    @property
    def files(self) -> dict[str, Path]:
        """Those of the counter."""
        return {name: self.authority.folder / "counter" / file for name, file in FILES.items()}

    def user(self, *rules: str) -> None:
        """Make the counter's user anew."""
        self.admin.execute_command("ACL", "SETUSER", "counter", "reset", "on", *rules)


@contextmanager
def guarded_redis(folder: Path) -> Iterator[Guarded]:
    """Start one, with certificates for it and the counter, and for a counter of a stranger."""
    authority, stranger = Authority(folder / "ours"), Authority(folder / "others")
    files = authority.issue("redis")
    authority.issue("counter")
    stranger.issue("counter")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(files / "tls.crt")]
    options += ["--tls-key-file", str(files / "tls.key")]
    options += ["--tls-ca-cert-file", str(files / "ca.crt")]
    with server(REDIS, *options) as found, closing(found.client()) as admin:
        admin.config_set("requirepass", "default's secret")
        yield Guarded(authority, stranger, port, admin)
