"""Keep the memory that training frees, instead of handing it back to the system every step."""

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
THRESHOLDS = (2**31 - 1, 2**25)
"""The largest number that the call takes, and the largest size that an old glibc accepts."""


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory for the next step. Elsewhere than on Linux with glibc, do nothing.

    By default glibc maps every large tensor anew and unmaps it after use; on the CPU most of a training step then goes
    into the kernel's zeroing of pages: a step takes about one and a half times as long. This is a setting of the whole
    process, so that only the command does it, never the library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, THRESHOLDS[0])
    any(mallopt(M_MMAP_THRESHOLD, threshold) for threshold in THRESHOLDS)
