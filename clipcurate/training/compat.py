"""The one place that imports open_clip, so that torchvision's operators are settled before.

The torchvision wheel of PyPI expects a CUDA torch. Beside a CPU torch its compiled library cannot
load, and `import torchvision` then fails on operators that only that library declares. CLIP needs
none of them: declaring them is enough.
"""

import importlib.util
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare_missing_operators() -> torch.library.Library | None:
    """Declare the operators that `import torchvision` looks up, if their library cannot load.

    Returns:
        The declarations, which last as long as this object; None where nothing was missing.
    """
    if _library_loads():
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _library_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is missing: pip install 'clipcurate[train]'")
    try:
        for path in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
            return True
    except OSError:
        return False
    return False


DECLARATIONS = declare_missing_operators()

import open_clip  # noqa: E402

__all__ = ["DECLARATIONS", "declare_missing_operators", "open_clip"]
