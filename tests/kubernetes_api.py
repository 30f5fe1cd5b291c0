"""A Kubernetes API server for tests: Jobs, Pods and Services over HTTP, from a `State`.

Lists carry resourceVersion; watches stream, send bookmarks and end after timeoutSeconds; versions
that are forgotten answer 410. It can be away, overloaded, forbid things, and cut its watches.
"""

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.kubernetes_state import Object, Refusal, State

PATH = re.compile(
    r"/(?:api/v1|apis/batch/v1)/namespaces/[^/]+/(jobs|pods|services)(?:/([^/]+))?(/log)?"
)
KINDS = {"jobs": ("batch/v1", "Job"), "pods": ("v1", "Pod"), "services": ("v1", "Service")}
VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}
BOOKMARK_SECONDS = 0.2


class KubernetesApi:
    """The server, its state, and the faults that it has just now."""

    def __init__(self) -> None:
        self.state = State()
        self.asked: list[str] = []
        self.forbidden: set[str] = set()
        self.refusals: list[int] = []
        self._cuts = 0
        self._server = self._listen(0)
        self.port = self._server.server_port

    def cut_watches(self) -> None:
        """Cut every connection that watches, in the middle of its stream."""
        with self.state.changed:
            self._cuts += 1
            self.state.changed.notify_all()

    @property
    def cuts(self) -> int:
        return self._cuts

    def go_away(self) -> None:
        """Be away: no port, no connection."""
        self.cut_watches()
        self._server.shutdown()
        self._server.server_close()

    def come_back(self) -> None:
        self._server = self._listen(self.port)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "here",
        }
        path.write_text(json.dumps(config))
        return path

    def _listen(self, port: int) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"api": self})
        server = _Server(("127.0.0.1", port), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server


@contextmanager
def kubernetes_api() -> Iterator[KubernetesApi]:
    api = KubernetesApi()
    try:
        yield api
    finally:
        api.go_away()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: KubernetesApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        return

    def _answer(self) -> None:
        try:
            self._dispatch()
        except Refusal as refusal:
            status = {"kind": "Status", "status": "Failure", "code": refusal.status}
            status |= {"reason": refusal.reason, "message": str(refusal)}
            self._send(refusal.status, json.dumps(status).encode())

    def _dispatch(self) -> None:
        url = urlsplit(self.path)
        found = PATH.fullmatch(url.path)
        body = self._body()
        if found is None:
            raise Refusal(404, "NotFound", url.path)
        resource, name, log = found.groups()
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self._admit(self._verb(name, query), resource + (log or ""))
        if log:
            self._send(200, self._log(name, int(query["tailLines"])), "text/plain")
        elif query.get("watch"):
            self._watch(resource, query)
        else:
            self._send(200, json.dumps(self._result(resource, name, query, body)).encode())

    def _verb(self, name: str | None, query: dict[str, str]) -> str:
        if self.command == "GET" and not name:
            return "watch" if query.get("watch") else "list"
        return VERBS[self.command]

    def _admit(self, verb: str, resource: str) -> None:
        what = f"{verb} {resource}"
        self.api.asked.append(what)
        if self.api.refusals:
            status = self.api.refusals.pop(0)
            raise Refusal(status, "Refused", "try again later")
        if what in self.api.forbidden:
            group = "batch" if resource == "jobs" else ""
            raise Refusal(
                403, "Forbidden", f'cannot {verb} resource "{resource}" in API group "{group}"'
            )

    def _result(self, resource: str, name: str | None, query: dict[str, str], body: Any) -> Object:
        state = self.api.state
        if self.command == "POST":
            return state.create(resource, body)
        if self.command == "DELETE":
            assert name
            state.delete(resource, name, query.get("propagationPolicy", "Background"))
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if name:
            return state.get(resource, name)
        with state.changed:
            items = [item for item in state.all(resource) if selected(item, query)]
            version, kind = KINDS[resource]
            metadata = {"resourceVersion": str(state.version)}
            return {
                "apiVersion": version,
                "kind": f"{kind}List",
                "metadata": metadata,
                "items": items,
            }

    def _log(self, name: str, lines: int) -> bytes:
        self.api.state.get("pods", name)
        text = self.api.state.logs.get(name, "")
        return "".join(text.splitlines(keepends=True)[-lines:]).encode()

    def _watch(self, resource: str, query: dict[str, str]) -> None:
        state, seen = self.api.state, int(query.get("resourceVersion", 0))
        deadline = time.monotonic() + float(query.get("timeoutSeconds", 1800))
        cuts = self.api.cuts
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if seen < state.forgotten:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            self._event("ERROR", gone)
            self._chunk(b"")
            return
        while time.monotonic() < deadline:
            with state.changed:
                fresh = [event for event in state.history if event[0] > seen]
                if not fresh:
                    state.changed.wait(BOOKMARK_SECONDS)
            if self.api.cuts != cuts:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            for version, kind, of, item in fresh:
                if of == resource and selected(item, query):
                    self._event(kind, item)
                seen = version
            if not fresh and query.get("allowWatchBookmarks"):
                api_version, kind = KINDS[resource]
                metadata = {"resourceVersion": str(seen)}
                self._event(
                    "BOOKMARK", {"apiVersion": api_version, "kind": kind, "metadata": metadata}
                )
        self._chunk(b"")

    def _event(self, kind: str, item: Object) -> None:
        self._chunk(json.dumps({"type": kind, "object": item}).encode() + b"\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length", 0))
        return json.loads(self.rfile.read(length)) if length else None

    def _send(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def selected(item: Object, query: dict[str, str]) -> bool:
    """Say whether an object fits a labelSelector and a fieldSelector of equalities."""
    labels = item["metadata"].get("labels", {})
    wanted = dict(
        part.split("=") for part in filter(None, query.get("labelSelector", "").split(","))
    )
    name = query.get("fieldSelector", "").removeprefix("metadata.name=")
    fits = all(labels.get(key) == value for key, value in wanted.items())
    return fits and name in ("", item["metadata"]["name"])
