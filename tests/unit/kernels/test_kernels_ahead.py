"""Kernels compiled ahead of time do what numba's do, and want no numba."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CPU = "x86-64" if platform.machine() == "x86_64" else "generic"
COMMAND = (sys.executable, "-m", "clipcurate.kernels.ahead")

WITHOUT_NUMBA = """
import sys
import clipcurate.kernels
clipcurate.kernels.__path__.append(sys.argv[1])
sys.modules["numba"] = sys.modules["llvmlite"] = None
"""

RESULTS = """
import hashlib
import numpy as np, pyarrow as pa
from clipcurate.balancing import critical_t, keep_probability
from clipcurate.hashing import hash_pairs, hash_pairs_twice
from clipcurate.kernels.entry import entries
from clipcurate.matching import Matcher
from clipcurate.training.kernels import resample_rows

rng = np.random.default_rng(7)
words = ["a", "b", "photo", "incomprehensibilities", "red panda", "熊猫", "猫", "a b", "b", "p,"]
texts = pa.array([" ".join(rng.choice(words, 9)) for _ in range(4000)] + [None, "", "a " * 9000])
found = []
for rule in ("metaclip1", "metaclip2"):
    matches = Matcher.build(words, rule).match(texts)
    taken = matches.take(rng.integers(0, len(texts), 5000))
    keys = hash_pairs(texts, texts)
    counts = np.full(len(words), 3)
    ids, seen = taken.sparse_counts()
    counts[ids] += seen
    found += [matches.row_offsets, matches.entry_ids, taken.entry_ids, keys, counts]
    found += [critical_t(matches, counts, keys, 5), keep_probability(matches, counts, 700.0)]
own = pa.array([None, "0123456789abcdef" * 2] * 2001 + [None])
found += hash_pairs_twice(texts, texts, own)
pixels, small = rng.integers(0, 256, (90, 60), np.uint8), np.empty((31, 60), np.uint8)
resample_rows(pixels, 3.5, 88.0, small)
found.append(small)
for array in found:
    print(array.dtype, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
print("numba" if sys.modules.get("numba") else "none")
print({name for name, entry in entries().items() if "_function" not in vars(entry)})
"""

LOCK = """
import threading
import numpy as np
from clipcurate.matching.kernels import count_ids
ids, counts = np.zeros(1 << 28, np.uint32), np.zeros(1, np.uint32)
count_ids(ids[:1], counts)
begins, ended = threading.Event(), threading.Event()

def work():
    begins.set()
    count_ids(ids, counts)
    ended.set()

sys.setswitchinterval(60)  # so that only a kernel lets the other thread run
thread = threading.Thread(target=work)
thread.start()
begins.wait()
print(ended.is_set())
thread.join()
"""


def python(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cc"):
        pytest.skip("kernels are compiled ahead of time by a C compiler, and here is none")
    folder = tmp_path_factory.mktemp("ahead")
    subprocess.run([*COMMAND, "--cpu", CPU, "--output", folder], check=True)
    return folder


def test_every_kernel_gives_what_numbas_gives(ahead: Path) -> None:
    ours = python(WITHOUT_NUMBA + RESULTS, ahead)
    numbas = python("import sys" + RESULTS)
    assert ours.stderr == numbas.stderr == ""
    assert ours.stdout.splitlines()[-2:] == ["none", "set()"]
    assert numbas.stdout.splitlines()[-2:] == ["numba", "set()"]
    assert ours.stdout.splitlines()[:-2] == numbas.stdout.splitlines()[:-2]


def test_other_threads_run_meanwhile(ahead: Path) -> None:
    assert python(WITHOUT_NUMBA + LOCK, ahead).stdout == "False\n"


def test_a_module_of_other_kernels_is_not_taken(ahead: Path, tmp_path: Path) -> None:
    (module,) = ahead.iterdir()
    older = module.name.replace(module.name.partition(".")[0], "ahead_0123456789abcdef")
    shutil.copy(module, tmp_path / older)
    refused = python(WITHOUT_NUMBA + RESULTS, tmp_path)
    assert "ModuleNotFoundError" in refused.stderr
    assert "numba" in refused.stderr


@pytest.mark.parametrize("cpu", ["x86-64-v9", "host", ""])
def test_a_processor_that_llvm_does_not_know_is_refused(cpu: str, tmp_path: Path) -> None:
    command = [*COMMAND, "--cpu", cpu, "--output", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert f"argument --cpu: LLVM knows no processor {cpu!r}" in refused.stderr
    assert not list(tmp_path.iterdir())
