"""The training loop: a function of model, data, loss and optimizer; it knows nothing of tasks."""

import io
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, update_bn

from lib import artefacts
from lib.errors import FacefoldError
from lib.learn.checkpoints import CHECKPOINTS
from lib.learn.weights import BROKEN
from lib.progress import progress

CHECKPOINTS_KEPT = 4  # best, last, before, and the one that is being written


class TrainingError(FacefoldError, RuntimeError):
    """Training cannot go on."""


class MovingAverage(ModelEmaV3):
    """timm's moving average of weights and buffers; looks its tensors up only once, for speed."""

    def follow(self, model: nn.Module) -> None:
        """Look up the tensors of ``model`` once accelerate has prepared it, which may move them."""
        own, others = self.module.state_dict().values(), model.state_dict().values()
        pairs = list(zip(own, others, strict=True))
        self.averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self.copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Move the average towards the model that it follows."""
        torch._foreach_lerp_(*zip(*self.averaged, strict=True), weight=1 - decay)
        for average, current in self.copied:  # how many batches BatchNorm has seen
            average.copy_(current)


@dataclass
class Learner:
    """What training changes; ``prepared`` is ``model`` as accelerate wraps it.

    ``soup`` is the mean of the weights of several epochs (Izmailov et al. 2018, SWA, arXiv
    1803.05407; Wortsman et al. 2022, model soups, arXiv 2203.05482). ``photos`` counts those that
    this process has trained on, in all epochs since it began.
    """

    model: nn.Module
    prepared: nn.Module
    criterion: Callable[[object, Tensor], Tensor]
    optimizer: Optimizer
    scheduler: Scheduler
    accelerator: Accelerator
    ema: MovingAverage | None
    soup: AveragedModel | None = None
    updates: int = 0
    photos: int = 0

    @classmethod
    def create(
        cls, model, criterion, optimizer, scheduler, accelerator, ema_decay: float, soup=False
    ) -> Self:
        """Place everything on the device; ``ema_decay`` warms up, 0 keeps no average."""
        accelerator.free_memory()  # it still holds the model of the fold before
        model = model.to(accelerator.device)
        ema = MovingAverage(model, ema_decay, use_warmup=True) if ema_decay else None
        mean = AveragedModel(model) if soup else None
        prepared, optimizer = accelerator.prepare(model, optimizer)
        if ema:
            ema.follow(model)
        criterion = criterion.to(accelerator.device)
        return cls(model, prepared, criterion, optimizer, scheduler, accelerator, ema, mean)

    def newest(self) -> nn.Module:
        """Return the model as an epoch leaves it: the moving average where there is one."""
        return self.ema.module if self.ema else self.model

    def evaluated(self) -> nn.Module:
        """Return the model that is scored and kept: the soup once an epoch went into it."""
        return self.soup.module if self.soup and self.soup.n_averaged > 0 else self.newest()

    def state(self) -> dict:
        """Return what a later process needs to continue; the history restores the scheduler."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        average = {"ema": self.ema.module.state_dict()} if self.ema else {}
        soup = {"soup": self.soup.state_dict()} if self.soup else {}
        return {**state, **average, **soup, "updates": self.updates}

    def load(self, state: Mapping) -> None:
        """Continue from ``state()``."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        if self.soup:
            self.soup.load_state_dict(state["soup"])


def fit(
    learner: Learner,
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    *,
    epochs: int,
    evaluate: Callable[[nn.Module], dict[str, float]],
    folder: Path,
    patience: int = 0,
    bn_batches: int = 0,
    soup_epochs: int = 0,
    before_epoch: Callable[[int], None] = lambda epoch: None,
    after_epoch: Callable[[pd.DataFrame], None] = lambda history: None,
) -> pd.DataFrame:
    """Train and return the history, a row per epoch; the best epoch is kept as ``best.pt``.

    ``batches(epoch)`` yields (inputs, targets) and is the same whenever it is asked for the same
    epoch, so a run that was killed continues from ``last.pt`` as if it had not been. ``patience``
    epochs without a better score end the training; 0 never does. ``evaluate`` returns measures by
    name, among them ``score``, larger is better; where nobody is validated it is NaN and the last
    epoch is the best. Before it, ``bn_batches`` > 0 measures BatchNorm's statistics again. In the
    last ``soup_epochs`` of ``epochs`` the mean of their weights so far is what is scored and kept.
    An epoch's ``seconds`` count training and scoring, ``photos_per_second`` training in all
    processes.
    """
    artefacts.check_space(folder, CHECKPOINTS_KEPT * _bytes(learner))
    rows = _resume(learner, folder)
    while len(rows) < epochs and not (patience and _epochs_since_best(rows) >= patience):
        epoch = len(rows)
        before_epoch(epoch)
        start, seen = time.monotonic(), learner.photos
        loss = train_epoch(learner, batches(epoch), f"{folder.name} epoch {epoch + 1}/{epochs}")
        speed = (learner.photos - seen) / (time.monotonic() - start)
        if learner.soup and epoch >= epochs - soup_epochs:
            learner.soup.update_parameters(learner.newest())
        if bn_batches:
            some = (inputs for inputs, _ in islice(batches(epoch), bn_batches))
            update_bn(some, learner.evaluated())
        rate = learner.optimizer.param_groups[0]["lr"]
        measures = evaluate(learner.evaluated())
        row = {"epoch": epoch + 1, "learning_rate": rate, "loss": loss, **measures}
        row["seconds"] = time.monotonic() - start
        row["photos_per_second"] = speed * learner.accelerator.num_processes
        # Of several processes the first decides which epoch is best and when to end.
        rows += broadcast_object_list([row])
        learner.scheduler.step(epoch + 1, rows[-1]["score"])
        if learner.accelerator.is_main_process:
            _keep(learner, rows, folder)
        learner.accelerator.wait_for_everyone()
        after_epoch(pd.DataFrame(rows))
    return pd.DataFrame(rows)


def _keep(learner: Learner, rows: list[dict], folder: Path) -> None:
    if _epochs_since_best(rows) == 0:
        save(learner.evaluated().state_dict(), folder / "best.pt")
    last, before = (folder / name for name in CHECKPOINTS)
    if last.exists():
        last.replace(before)
    save({"rows": rows, **learner.state()}, last)
    artefacts.write_table(pd.DataFrame(rows), folder / "history.csv")


def train_epoch(
    learner: Learner, batches: Iterable[tuple[Tensor, Tensor]], description: str
) -> float:
    """Take one pass of optimizer steps and return the mean loss, which must stay finite."""
    learner.prepared.train()
    losses: list[float] = []
    try:
        for inputs, targets in progress(batches, description, unit="batch"):
            losses.append(_step(learner, inputs, targets))
            if not np.isfinite(losses[-1]):
                raise TrainingError(_not_finite(learner, losses, description, batches))
    except TrainingError:
        raise
    except (RuntimeError, MemoryError) as error:
        place = f"{description}, batch {len(losses) + 1}"
        if explained := _explained(error, place, _photos(batches, len(losses))):
            raise TrainingError(explained) from error
        raise
    return float(np.mean(losses))


def _not_finite(learner: Learner, losses: list[float], description: str, batches) -> str:
    rate, step = learner.optimizer.param_groups[0]["lr"], len(losses)
    return (
        f"The loss is {losses[-1]} in {description}, batch {step}: lower learning_rate (now "
        f"{rate:.2g}), lengthen warmup_epochs, or take precision='fp32'"
        f"{_photos(batches, step - 1)}. The best epoch before is kept"
    )


def _explained(error: Exception, place: str, photos: str) -> str:
    """Return in a sentence what a user can do about an error; "" where that is not known."""
    text = str(error)
    if isinstance(error, MemoryError) or ("memory" in text and "alloc" in text):
        advice = "lower batch_size (and raise accumulate) or image_size"
        return f"Out of memory in {place}: {advice}, or take a smaller backbone"
    if "DataLoader worker" in text:
        advice = "take workers=0 to see why, or fewer workers if memory is short"
        return f"A worker died in {place}: {advice}{photos}"
    return ""


def _photos(batches: Iterable, step: int) -> str:
    """Return the photos of a batch in words, where the batches know them."""
    keys = getattr(batches, "keys", None)
    return f"; its photos are {', '.join(keys(step))}" if keys else ""


def _step(learner: Learner, inputs: Tensor, targets: Tensor) -> float:
    accelerator = learner.accelerator
    learner.photos += len(inputs)
    with accelerator.accumulate(learner.prepared):
        loss = learner.criterion(learner.prepared(inputs), targets)
        accelerator.backward(loss)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
    if accelerator.sync_gradients:
        learner.updates += 1
        learner.scheduler.step_update(learner.updates)
        if learner.ema:
            learner.ema.update(learner.model, step=learner.updates)
    return loss.item()


def _resume(learner: Learner, folder: Path) -> list[dict]:
    state = _last_whole(folder, learner.accelerator.device)
    if state is None:
        return []
    # plateau counts its bad epochs here; the other schedules follow from the update alone.
    for row in state["rows"]:
        learner.scheduler.step(row["epoch"], row["score"])
    learner.load(state)
    return state["rows"]


def _last_whole(folder: Path, device: torch.device) -> dict | None:
    """Return the last checkpoint that can be read; the one before it where the last cannot."""
    for path in (folder / name for name in CHECKPOINTS):
        if path.exists():
            try:
                return torch.load(path, map_location=device, weights_only=True)
            except BROKEN:
                print(f"{path} cannot be read: the fold continues from the epoch before it")
    return None


def _bytes(learner: Learner) -> int:
    """Return about how large a checkpoint is: weights, their averages, two moments of each."""
    weights = learner.model.state_dict().values()
    return (5 if learner.soup else 4) * sum(
        tensor.numel() * tensor.element_size() for tensor in weights
    )


def _epochs_since_best(rows: list[dict]) -> int:
    """Return 0 when the last epoch is the best so far; without a score every last epoch is."""
    scores = [row["score"] for row in rows]
    if not rows or np.isnan(scores[-1]):
        return 0
    return len(scores) - 1 - int(np.argmax(scores))


def save(state: dict, path: Path) -> None:
    """Write a checkpoint whole or not at all; equal states give equal bytes."""
    buffer = io.BytesIO()  # the name of a file would become part of its contents
    torch.save(state, buffer)
    with artefacts.atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
