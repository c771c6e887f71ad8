"""What makes torchvision importable beside a CPU build of torch."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache  # torch drops the schemas with the library object, so one must live as long as the process
def declare_torchvision_schemas() -> object | None:
    """Declare torchvision's operators where its compiled library cannot load; call it before importing torchvision.

    A CUDA build of torchvision dies on import beside a CPU torch ("operator torchvision::nms does not exist").
    With the two schemas there, transforms, models and data sets work; the operators themselves still raise.
    Does nothing where torchvision is absent, works, or has its operators declared by somebody else: a second
    definition would abort the process. Returns the library that holds the schemas, None where none was needed.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return None
    if any(hasattr(torch.ops.torchvision, operator) for operator in OPERATORS):
        return None
    for compiled in sorted(Path(found.origin).parent.glob("_C*.so")):
        try:
            # torchvision loads the same file again, which is harmless
            torch.ops.load_library(str(compiled))  # type: ignore[no-untyped-call]
            return None
        except OSError:
            continue
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in OPERATORS:
        library.define(operator + SIGNATURE)  # type: ignore[no-untyped-call]
    return library
