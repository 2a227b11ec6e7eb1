"""The device of a training (CPU or GPU) and its precision."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from aae.errors import ParameterError
from aae.params import Device, Precision


def training_device(name: Device) -> torch.device:
    """Return the device of this name; under `torchrun` each process on a machine has its own GPU.

    Args:
        name: "cpu", "cuda", or "auto", which is "cuda" if there is a GPU and else "cpu".

    Raises:
        ParameterError: if there is no GPU for this process.
    """
    gpus = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and gpus == 0):
        return torch.device("cpu")
    if gpus == 0:
        raise ParameterError(f"device: {name!r} needs a GPU and there is none; use 'cpu' or 'auto'")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= gpus:
        raise ParameterError(
            f"device: {name!r} needs a GPU for each process on a machine, and there are {gpus}; "
            f"reduce the number of processes in launcher"
        )
    # With a fixed workspace a matrix product is reproducible to the last bit. cuBLAS reads the
    # variable at its first use. https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # This is the same size in KiB. With torch's default, matrix products of a batch of 100 use a
    # kernel that takes three times as long: a sixth of a whole step.
    os.environ.setdefault("CUBLASLT_WORKSPACE_SIZE", "32768")
    torch.backends.cudnn.deterministic = True  # the same for convolutions
    # By default torch allows TF32 in convolutions, but not in matrix products.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def training_precision(name: Precision, device: torch.device) -> Precision:
    """Return the precision of this name; "auto" is "bf16" if the device supports it.

    Raises:
        ParameterError: if it is "tf32" and the device is not a GPU that supports it.
    """
    if name == "auto":
        return "bf16" if has_bf16(device) else "float32"
    if name == "tf32" and not (device.type == "cuda" and torch.cuda.is_tf32_supported()):
        raise ParameterError(
            "precision: 'tf32' needs device: cuda and a GPU that supports it; "
            "use 'float32', 'bf16' or 'auto'"
        )
    return name


@contextmanager
def rounding(precision: Precision) -> Iterator[None]:
    """With "tf32", let a GPU round the inputs of matrix products until the block ends.

    It rounds them to a mantissa of 10 bits; bfloat16 would have one of 7 bits.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
    """
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for kind, own in zip(kinds, before, strict=True):
            kind.fp32_precision = own


def has_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions for matrix products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))
