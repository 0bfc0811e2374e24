"""Work shared among threads in even shares, and artefacts that one process at a time makes."""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock, Timeout

PATIENCE = 5  # seconds that a process waits for another one before it says so


def even_shares(items: Sequence, most: int, workers: int) -> list[np.ndarray]:
    """Cut ``items`` into parts of at most ``most`` and nearly equal length, as many per worker."""
    rounds = max(1, -(-len(items) // (most * workers)))
    return np.array_split(items, rounds * workers)


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of ``workers`` threads; in each, OpenCV and torch use a single thread."""
    torch = sys.modules.get("torch")  # whoever has not imported it does not compute with it
    before = cv2.getNumThreads(), torch and torch.get_num_threads()
    cv2.setNumThreads(1)
    if torch:
        torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers)  # a process forked from a kernel may wait forever for a lock
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(before[0])
        if torch:
            torch.set_num_threads(before[1])


@contextmanager
def one_process(path: Path) -> Iterator[None]:
    """Let one process at a time make ``path``; one that has to wait says for which process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(f".{path.name}.holder")
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"{path} is being made by {_told(holder)}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        holder.write_text(f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    """Return who holds a lock; nobody says so while it changes hands."""
    with suppress(FileNotFoundError):
        return holder.read_text()
    return "another process"


def held(folder: Path, name: str) -> list[str]:
    """Return what processes are making in ``folder`` now, of the things called like ``name``."""
    locks = folder.glob(f".{name}.lock")
    return [lock.name[1:-5] for lock in locks if _is_held(lock)]


def _is_held(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
