"""The product at work, watched from outside: `clipcurate run`, and what its processes take."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any


def curate(pool: Path, metadata: Path, t: float, output: Path) -> dict[str, Any]:
    """Run the product; return wall seconds, processes, and processor seconds by stage."""
    options = {"pool": pool, "metadata": metadata, "output": output, "t": t}
    command = [sys.executable, "-m", "clipcurate.cli.app", "run"]
    for name, value in {**options, "workers": os.cpu_count()}.items():
        command += [f"--{name}", str(value)]
    processes, start = Processes(), time.perf_counter()
    processes.start()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    return {
        "wall_seconds": round(wall, 1),
        "processes": processes.stop(),
        "stages_cpu_seconds": all_stage_seconds(output / ".clipcurate"),
    }


def all_stage_seconds(state: Path) -> dict[str, float]:
    """Return the processor time of all workers' finished tasks by stage, from a state folder."""
    sums: dict[str, float] = defaultdict(float)
    for log in [*(state / "logs").glob("matcher-*.log"), *(state / "logs").glob("sampler.log")]:
        for stage, seconds in stage_seconds(log).items():
            sums[stage] += seconds
    return {stage: round(seconds, 2) for stage, seconds in sums.items()}


def stage_seconds(log: Path) -> dict[str, float]:
    """Return the processor time of a worker's finished tasks by stage, from its log."""
    sums: dict[str, float] = defaultdict(float)
    for line in log.read_text().splitlines():
        fields = json.loads(line) if line.startswith("{") else {}
        if fields.get("message") == "done":
            sums[fields["stage"].removeprefix("STAGE_").lower()] += fields["cpu_seconds"]
    return dict(sums)


class Processes(threading.Thread):
    """Watches the processor time of all descendants of this process, by what they are."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen: dict[int, tuple[str, float, int, int, int]] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look four times a second."""
        while not self._stopped.wait(0.25):
            for pid in self._descendants():
                self._look_at(pid)

    def stop(self) -> dict[str, dict[str, float]]:
        """Return by kind: processor seconds, 10^6 bytes read and written, the largest peak memory.

        Read and written is what passes through calls of the kernel, cached or not, files or not.
        """
        self._stopped.set()
        self.join()
        names = ("cpu_seconds", "read_mb", "written_mb", "peak_mb")
        sums: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(names, 0))
        for kind, seconds, memory, read, written in self._seen.values():
            sums[kind]["cpu_seconds"] = round(sums[kind]["cpu_seconds"] + seconds, 1)
            sums[kind]["read_mb"] += read
            sums[kind]["written_mb"] += written
            sums[kind]["peak_mb"] = max(sums[kind]["peak_mb"], memory)
        return dict(sums)

    def _descendants(self) -> list[int]:
        found, queue = [], [os.getpid()]
        while queue:
            for path in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
                try:
                    children = [int(pid) for pid in path.read_text().split()]
                except OSError:  # it has ended
                    continue
                found += children
                queue += children
        return found

    def _look_at(self, pid: int) -> None:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
            through = Path(f"/proc/{pid}/io").read_text().split()
        except OSError:  # it has ended
            return
        if not command[0]:  # it has ended and waits to be noticed
            return
        kind = next((a.rpartition(".")[2] for a in command if a.startswith("services.")), "")
        kind = kind or ("redis" if "redis" in command[0] else "command")
        ticks = int(fields[11]) + int(fields[12])
        peak = next((line.split()[1] for line in status.splitlines() if "VmHWM" in line), "0")
        read, written = (int(through[place]) // 1_000_000 for place in (1, 3))  # rchar, wchar
        seconds = ticks / os.sysconf("SC_CLK_TCK")
        self._seen[pid] = (kind, seconds, int(peak) // 1000, read, written)
