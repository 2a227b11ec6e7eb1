"""Where a training runs: on the processor, or on a GPU by CUDA."""

import os

import torch

from aae.errors import ParameterError
from aae.params import Device


def training_device(name: Device) -> torch.device:
    """Return the device of this name; under `torchrun`, each process of a machine has its own GPU.

    Args:
        name: "cpu", "cuda", or "auto" for "cuda" where there is a GPU.

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
            f"let launcher start no more processes"
        )
    # Read when cuBLAS is first used: with a workspace of its own a matrix product repeats to the
    # last bit. https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As large, in KiB. With torch's own choice the products of a batch of 100 get a kernel that
    # takes three times longer: a sixth of a whole step.
    os.environ.setdefault("CUBLASLT_WORKSPACE_SIZE", "32768")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bfloat16 itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))
