"""A setting of glibc's allocator that makes training on a CPU one and a half times as fast."""

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
THRESHOLDS = (2**31 - 1, 2**25)
"""The largest number that the call accepts, and the largest size that an old glibc accepts."""


def keep_freed_memory() -> None:
    """Set glibc's allocator to keep freed memory for the next step; do nothing on other systems.

    By default glibc maps every large tensor anew and unmaps it after use: most of a training step on a CPU is then
    spent on zeroing pages in the kernel. This is a setting of the whole process, so that only the command makes it,
    never the library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, THRESHOLDS[0])
    any(mallopt(M_MMAP_THRESHOLD, threshold) for threshold in THRESHOLDS)
