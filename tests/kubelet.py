"""A node of the Kubernetes API for tests: runs pods as processes of this machine."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from clipcurate.training.launch import contract
from tests.kubernetes_state import Object, State, index_of
from tests.ports import free_port

LOOK_SECONDS = 0.05


@dataclass
class Kubelet:
    """Starts what is pending, ends what must go, and says how it ended.

    The name of the pods' Service becomes this machine, where nothing resolves it.
    """

    state: State
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def work(self) -> None:
        while not self.stopping.wait(LOOK_SECONDS):
            for pod in self.state.all("pods"):
                self.attend(pod)

    def attend(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        process, leaving = self.processes.get(name), "deletionTimestamp" in pod["metadata"]
        if process is None and leaving:
            self.state.vanish(pod)
        elif process is None:
            self.processes[name] = self.start(pod)
            self.state.run(pod)
        elif process.poll() is None and leaving:
            process.send_signal(signal.SIGTERM)
            self.stopping.wait(1)
        elif process.poll() is not None:
            self.end(pod, process.returncode, leaving)

    def start(self, pod: Object) -> subprocess.Popen[bytes]:
        (container,) = pod["spec"]["containers"]
        local = {"status.podIP": "127.0.0.1"}
        environment = {
            item["name"]: item.get("value") or local[item["valueFrom"]["fieldRef"]["fieldPath"]]
            for item in container["env"]
        }
        environment[contract.MEETING_PLACE] = f"127.0.0.1:{self.port}"
        environment[contract.INDEX] = str(index_of(pod))
        arguments = [text.replace("$$(", "$(") for text in container["args"]]
        command = [sys.executable, *container["command"][1:], *arguments]
        return subprocess.Popen(command, env=os.environ | environment)

    def end(self, pod: Object, status: int, leaving: bool) -> None:
        if pod["status"]["phase"] == "Running":
            code = status if status >= 0 else 128 - status
            self.state.fail(pod, code) if code else self.state.succeed(pod)
        if leaving:
            self.state.vanish(pod)

    def kill(self, pod: Object) -> None:
        """Kill all processes of a pod, as a machine that loses power does."""
        agent = psutil.Process(self.processes[pod["metadata"]["name"]].pid)
        for process in [*agent.children(recursive=True), agent]:
            process.kill()


@contextmanager
def kubelet(state: State) -> Iterator[Kubelet]:
    node = Kubelet(state, port=free_port())
    state.holds_pods = True
    thread = threading.Thread(target=node.work, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        node.stopping.set()
        thread.join()
        for process in node.processes.values():
            process.kill()
            process.wait()
