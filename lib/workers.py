"""Work shared among threads or processes: in even shares, and with one thread each where there is a worker for every core."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np


def even_shares(items: Sequence, most: int, workers: int) -> list[np.ndarray]:
    """Cut ``items`` into runs of at most ``most``, as many for each worker, whose lengths differ by one at most."""
    rounds = max(1, -(-len(items) // (most * workers)))
    return np.array_split(items, rounds * workers)


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of ``workers`` threads, in each of which OpenCV and torch keep to one thread a call.

    Threads, since a process forked from a notebook's kernel could wait forever for a lock. When the block is left, what has not
    begun is dropped.
    """
    torch = sys.modules.get("torch")  # it takes seconds to import, and who has not imported it does not compute with it
    before = cv2.getNumThreads(), torch and torch.get_num_threads()
    cv2.setNumThreads(1)
    if torch:
        torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(before[0])
        if torch:
            torch.set_num_threads(before[1])
