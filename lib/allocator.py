"""Memory that is freed stays in the process, ready for the next tensor.

glibc gives every large block back to the system when it is freed and fetches it anew, page by page and zeroed, for the next
tensor of that size: a training step, which allocates what the step before freed, spent up to two fifths of its time so.
Other allocators (macOS, Windows, musl) are left as they are.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # the parameters of mallopt(3), from malloc.h
MOST = 2**31 - 1  # mallopt takes an int


def keep_freed() -> None:
    """Serve large blocks from the heap too, and leave the heap as large as it has been."""
    if platform.libc_ver()[0] == "glibc":
        glibc = ctypes.CDLL(None)
        glibc.mallopt(M_MMAP_MAX, 0)
        glibc.mallopt(M_TRIM_THRESHOLD, MOST)
