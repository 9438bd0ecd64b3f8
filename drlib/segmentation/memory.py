"""Memory that the process keeps.

A pass through the network frees and asks for the same large blocks again and again. By default the C library returns each to the
system and gets it back as pages to be cleared: a third of the time of a pass on a CPU. Kept, the process holds its largest use
until it ends.
"""

import ctypes
import functools
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Tell the C library to keep freed blocks; return whether it can (GNU libc)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
