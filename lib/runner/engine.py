"""Run a batch as units, all at once that can be: ``--on`` of ``lib.run``."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from lib import PROJECT
from lib.runner.batch import Experiment, Result, write_page
from lib.runner.board import Board
from lib.runner.places import Place
from lib.runner.stages import Step
from lib.runner.unit import Outcome
from lib.runner.units import Unit, divide

SECONDS = 1.0  # between two looks at what is running


def run(experiments: Sequence[Experiment], place: Place) -> list[Result]:
    """Run the units of all experiments at a place; return what became of each experiment."""
    board = Board(divide(experiments, place.workers))
    pages, state = Pages(board), "stopped"
    submitted: dict[Future[Outcome], int] = {}
    try:
        place.check(board.units)
        while len(board.outcomes) < len(board.units):
            _submit(board, place, submitted)
            ended, _ = wait(submitted, SECONDS, FIRST_COMPLETED)
            board.runs(place.running())
            for future in ended:
                number = submitted.pop(future)
                board.ends(number, _outcome(future, board.units[number]))
            pages.write("running", rest=not ended)
        state = "ended"
    finally:
        place.close()
        pages.close(state)
    return board.results()


def _submit(board: Board, place: Place, submitted: dict[Future[Outcome], int]) -> None:
    """Hand over the units that are ready; those that are finished or lack something end here."""
    under_way = set(submitted.values())
    for number in (n for n in board.waiting() if n not in under_way and board.is_ready(n)):
        if why := board.missing(number):
            board.ends(number, Outcome("skipped", why=why))
        elif board.units[number].is_finished():
            board.ends(number, Outcome("finished"))
        else:
            submitted[place.submit(number, board.units[number])] = number


def _outcome(future: Future[Outcome], unit: Unit) -> Outcome:
    """Return how a unit ended; what the place could not do is a failure of this unit alone."""
    error = future.exception()
    if error is None:
        return future.result()
    reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    return Outcome("failed", why=f"{unit.step.stage}: {reason}")


class Pages:
    """Writes ``batch.json`` at once, and the page of all runs without anybody waiting for it."""

    def __init__(self, board: Board):
        self.board, self.pool = board, ThreadPoolExecutor(1)
        self.steps = {folder: step for unit in board.units for folder, step in _of(unit.step)}
        self.writing: Future | None = None
        self.ended = -1

    def write(self, state: str, rest: bool = False) -> None:
        """Write what has changed; while units come to rest, the page too."""
        self.board.write(filter(Path.is_dir, self.steps), state)
        news = len(self.board.outcomes) > self.ended
        if news and rest and (self.writing is None or self.writing.done()):
            self.ended = len(self.board.outcomes)
            self.writing = self.pool.submit(self._page)

    def _page(self) -> None:
        for step in self.steps.values():
            write_page(step)

    def close(self, state: str) -> None:
        """Write everything once more."""
        self.pool.shutdown(cancel_futures=True)
        self.board.write(filter(Path.is_dir, self.steps), state)
        if state == "ended":
            self._page()


def _of(step: Step) -> list[tuple[Path, Step]]:
    """Return the folder of runs that a step names, if it names one."""
    named = step.settings.get("runs_dir")
    return [(PROJECT / Path(named).expanduser(), step)] if named else []
