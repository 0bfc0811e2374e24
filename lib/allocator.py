"""Memory that is freed stays in the process, ready for the next tensor.

glibc returns every large block to the system when it is freed, and for the next tensor of that
size gets it back page by page, filled with zeros. A training step allocates what the step before
has freed and spent up to two fifths of its time on that. Other allocators (macOS, Windows, musl)
stay as they are.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # the parameters of mallopt(3), from malloc.h
MOST = 2**31 - 1  # mallopt takes an int


def keep_freed() -> None:
    """Serve large blocks from the heap too, and never make the heap smaller again."""
    if platform.libc_ver()[0] == "glibc":
        glibc = ctypes.CDLL(None)
        glibc.mallopt(M_MMAP_MAX, 0)
        glibc.mallopt(M_TRIM_THRESHOLD, MOST)
