"""Which int8 kernels this machine has.

Without VNNI instructions those of ONNX Runtime may saturate their 16-bit sums, see
docs/decisions/0015-kernel-classes.md.
"""

import platform
import re
from functools import cache
from pathlib import Path
from typing import Literal

KernelClass = Literal["avx512-vnni", "avx-vnni", "avx512", "avx2", "other"]

_CPU_INFO = Path("/proc/cpuinfo")
_KERNELS: tuple[tuple[KernelClass, str], ...] = (
    ("avx512-vnni", "avx512_vnni"),
    ("avx-vnni", "avx_vnni"),
    ("avx512", "avx512f"),
    ("avx2", "avx2"),
)


def kernel_class_of(cpu_info: str) -> KernelClass:
    """The best int8 kernels that a CPU of these flags (text of `/proc/cpuinfo`) can run."""
    flags = re.search(r"^flags\s*:(.*)$", cpu_info, re.MULTILINE)
    known = set(flags.group(1).split()) if flags else set()
    return next((kernels for kernels, flag in _KERNELS if flag in known), "other")


@cache
def cpu_kernel_class() -> KernelClass:
    """The best int8 kernels of this machine; `other` where it does not say (Arm, not Linux)."""
    try:
        return kernel_class_of(_CPU_INFO.read_text(encoding="utf-8"))
    except OSError:
        return "other"


def is_x86() -> bool:
    """Whether this is a 64-bit x86."""
    return platform.machine().lower() in {"x86_64", "amd64"}


def needs_exact_int8() -> bool:
    """Whether this machine's default int8 kernels may saturate: x86 without VNNI."""
    return is_x86() and cpu_kernel_class() not in {"avx512-vnni", "avx-vnni"}
