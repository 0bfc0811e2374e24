"""Signals that end a command: each raises ``Stopped``, so that kernels and files are cleaned up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = [signal.Signals[name] for name in NAMES if name in signal.Signals.__members__]


class Stopped(KeyboardInterrupt):
    """This process received a signal; ``code`` is its exit code, 128 + the signal's number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.name, self.code = signal.Signals(number).name, 128 + number


@contextmanager
def listening() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise ``Stopped`` in this block, the first of them only.

    SIGINT counts although a shell ignores it for what a script starts with ``&``. An ignored SIGHUP
    stays so: that is what ``nohup`` is for.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [n for n in SIGNALS if n.name != "SIGHUP" or before[n] != signal.SIG_IGN]

    def stop(number, frame):
        _handle(dict.fromkeys(heard, signal.SIG_IGN))  # cleaning up is not interrupted
        raise Stopped(number)

    _handle(dict.fromkeys(heard, stop))
    try:
        yield
    finally:
        _handle(before)


def _handle(handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
