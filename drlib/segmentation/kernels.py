"""Compiled inner loops for a CPU: normalization with its activation, and the nearest codeword's search.

The framework reads and writes every activation of the network three to eight times for a GroupNorm, a LeakyReLU, a sum and their
gradients; ``kernels.cpp`` does it in two. It is compiled for this processor at the first use (two seconds, once per computer) where there
is a C++ compiler, and kept in the user's cache folder. Where there is none, or ``DRLIB_KERNELS=off`` is set, callers use the
framework's own operations: the same numbers up to rounding, more slowly.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-std=c++17")
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled functions, or None where there are none."""
    if os.environ.get("DRLIB_KERNELS", "").lower() == "off":
        return None
    try:
        return ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.CalledProcessError) as error:
        details = getattr(error, "stderr", None) or error
        logger.info("the compiled kernels cannot be used, the framework's operations are: %s", details)
        return None


def usable(x: Tensor) -> bool:
    """Return whether the kernels take ``x``: on the CPU, of a type they know."""
    return x.device.type == "cpu" and x.dtype in TYPES and library() is not None


def normalise(x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, slope: float, shortcut: Tensor | None = None):
    """Return LeakyReLU(GroupNorm(x)) + shortcut, and mean and inverse deviation (B, groups) of the groups.

    ``x``, ``shortcut`` (B, C, H, W): channels last, float32 or bfloat16; ``weight``, ``bias`` (C,): float32.
    """
    b, c, h, w = x.shape
    y = torch.empty_like(x)
    mean, inverse = torch.empty(2, b, groups)
    getattr(library(), f"normalise_{TYPES[x.dtype]}")(
        *_pointers(x, shortcut, weight, bias, y, mean, inverse), b, ctypes.c_int64(h * w), c, groups, *_numbers(epsilon, slope), _threads()
    )
    return y, mean, inverse


def normalise_backward(x: Tensor, grad: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, groups: int, slope: float):
    """Return the gradients of ``x``, ``weight`` and ``bias``, given that of the result (of the type and layout of ``x``)."""
    b, c, h, w = x.shape
    grad_x, grad_weight, grad_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    getattr(library(), f"normalise_backward_{TYPES[x.dtype]}")(
        *_pointers(x, grad, weight, bias, mean, inverse, grad_x, grad_weight, grad_bias),
        *(b, ctypes.c_int64(h * w), c, groups, *_numbers(slope), _threads()),
    )
    return grad_x, grad_weight, grad_bias


def finds_nearest(latents: Tensor) -> bool:
    """Return whether ``nearest`` takes ``latents``: on a CPU that multiplies bfloat16 (AVX-512 BF16)."""
    return latents.dtype == torch.float32 and usable(latents) and hasattr(library(), "nearest")


def nearest(latents: Tensor, codebook: Tensor) -> Tensor:
    """Return the index (N,) of the row of ``codebook`` (K, D) nearest to each of ``latents`` (N, D), float32; of equals the first."""
    latents, codebook, index = latents.contiguous(), codebook.contiguous(), torch.empty(len(latents), dtype=torch.int64)
    library().nearest(*_pointers(latents, codebook, index), ctypes.c_int64(len(latents)), *codebook.shape, _threads())
    return index


def _compiled() -> Path:
    """Return the shared library for this source, compiler and processor, made where it is not there yet."""
    compiler = next(filter(None, (shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        raise OSError("no C++ compiler was found (c++, g++ or clang++)")
    about = (SOURCE.read_text(), compiler, FLAGS, torch.__version__, platform.machine(), _processor())
    target = _cache_folder() / f"kernels-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.so"
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built, linked = Path(folder, "kernels.o"), Path(folder, target.name)
            subprocess.run([compiler, *FLAGS, "-c", str(SOURCE), "-o", str(built)], check=True, capture_output=True, text=True)
            # Not linked with an OpenMP library: the one that torch has loaded serves, so that both share their threads.
            subprocess.run([compiler, "-shared", str(built), "-o", str(linked)], check=True, capture_output=True, text=True)
            os.replace(linked, target)
    return target


def _cache_folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drlib"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to another user")
    return folder


def _processor() -> str:
    try:
        return next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


def _pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]


def _numbers(*values: float) -> list[ctypes.c_float]:
    return [ctypes.c_float(value) for value in values]


def _threads() -> int:
    return torch.get_num_threads()
