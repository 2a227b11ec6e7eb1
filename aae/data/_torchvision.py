"""torchvision's data sets, even if torchvision's compiled operators cannot be loaded.

torchvision is compiled for one build of torch. With another build (the usual torchvision and a CPU
build of torch) its library of operators does not load, and `import torchvision` ends with "operator
torchvision::nms does not exist": it registers kernels for two operators that only that library
declares. This module declares the two operators, so that the import succeeds; data sets call
neither of them. If the library loads, the operators exist and the module declares nothing.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import library

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _load_compiled_operators() -> None:
    spec = find_spec("torchvision")  # unlike an import, this cannot fail for want of the operators
    if spec is None or spec.origin is None:
        return
    for compiled in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(compiled)
        except OSError:
            continue


_load_compiled_operators()
for _operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _operator):
        library.define(f"torchvision::{_operator}", _SCHEMA)

from torchvision import datasets  # noqa: E402

__all__ = ["datasets"]
