"""Training by the recipe, the computation alone, other loops, and other places of pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms

from lib.artefacts import resolve
from lib.bench.turns import threads, timed
from lib.face.crops import Crops, made_from, make_crop
from lib.face.geometry import stored_size
from lib.learn import loop, recipe, training_set, weights
from lib.learn.batches import Epochs
from lib.learn.precision import chosen
from lib.runner.parameters import declared
from lib.runner.stages import notebook_of
from lib.task.attributes import Task


def parameters(**changes: object) -> dict:
    """Return the defaults of notebook 03 with the fastest precision, and ``changes``."""
    defaults = {name: each.default for name, each in declared(notebook_of("train")).items()}
    return defaults | {"precision": "auto"} | changes


def prepare(
    params: Mapping, task: Task, images: pd.DataFrame, crops: Crops, path: Path
) -> tuple[loop.Learner, Epochs, pd.DataFrame]:
    """Return the recipe's learner and epochs on all training photos, and the probe at ``path``."""
    photos = training_set.with_crops(images, crops, "train")
    model = recipe.model(params, task)
    probe = recipe.choose_precision(params, model, path)
    sources = [training_set.people_source(task, "photos", photos, crops, params["drop"])]
    manager = recipe.accelerator(params, chosen(probe))
    data = recipe.epochs(params, task, sources, manager, chosen(probe))
    return recipe.learner(params, task, sources, data, model), data, probe


def setting(params: Mapping, probe: pd.DataFrame) -> str:
    """Return what a training was measured under."""
    size = "x".join(map(str, params["image_size"]))
    backbone, precision = " + ".join(params["backbone"]), probe.index[probe["chosen"]][0]
    return f"{backbone}, {precision}, {size} px, batches of {params['batch_size']}, {threads()}"


def our_epoch(learner: loop.Learner, data: Epochs) -> Callable[[], float]:
    """Return a call that trains one epoch as notebook 03 does."""
    return lambda: loop.train_epoch(learner, data(0), "ours")


def pure_epoch(learner: loop.Learner, data: Epochs) -> Callable[[], None]:
    """Return a call that takes as many steps on one batch in memory: forward, backward, update."""
    images, targets = next(iter(data(0)))
    steps = len(data(0))

    def epoch() -> None:
        learner.prepared.train()
        for _ in range(steps):
            learner.criterion(learner.prepared(images), targets).backward()
            learner.optimizer.step()
            learner.optimizer.zero_grad()

    return epoch


def plain_model(folder: Path, name: str, pretrained: bool = False) -> nn.Module:
    """Return a timm model with an output for each folder of ``folder``."""
    backbone = weights.create(name, pretrained, None)
    classes = sum(path.is_dir() for path in folder.iterdir())
    return nn.Sequential(backbone, nn.Linear(backbone.head_hidden_size, classes))


def plain_epoch(
    folder: Path, model: nn.Module, image_size: Sequence[int], batch_size: int, steps: int
) -> Callable[[], None]:
    """Return a call that trains ``steps`` of the loop that people write first.

    ImageFolder on ``folder``, torchvision's transforms, two workers, fp32 and torch's Adam.
    """
    photos = datasets.ImageFolder(folder, _transforms(image_size))
    sampler = RandomSampler(photos, replacement=True, num_samples=steps * batch_size)
    loader = DataLoader(photos, batch_size, sampler=sampler, num_workers=2)
    optimizer, criterion = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()

    def epoch() -> None:
        model.train()
        for images, classes in loader:
            optimizer.zero_grad()
            criterion(model(images), classes).backward()
            optimizer.step()

    return epoch


def _transforms(image_size: Sequence[int]) -> transforms.Compose:
    """Return torchvision's transforms that change photos as often as the augmentation ``light``."""
    cut = [transforms.Resize(stored_size(image_size)), transforms.RandomCrop(image_size)]
    jitter = transforms.RandomApply([transforms.ColorJitter(0.2, 0.2)], 0.5)
    affine = transforms.RandomAffine(8, (0.03, 0.03), (0.95, 1.05))
    moved = [transforms.RandomHorizontalFlip(), jitter, transforms.RandomApply([affine], 0.3)]
    numbers = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    return transforms.Compose([*cut, *moved, *numbers])


def link_classes(photos: pd.DataFrame, data_dir: str | Path, folder: Path) -> Path:
    """Link photos into a folder per label, as ImageFolder wants them; return ``folder``."""
    for number, (label, file) in enumerate(zip(photos["label"], photos["file"], strict=True)):
        link = folder / f"{label:03d}" / f"{number}{Path(file).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(resolve(data_dir) / file)
    return folder


def step_parts(learner: loop.Learner, data: Epochs) -> pd.Series:
    """Return the median seconds of each part of a training step over one epoch."""
    learner.prepared.train()
    epoch = iter(data(0))
    return pd.DataFrame([_one_step(learner, epoch) for _ in range(len(data(0)))]).median()


def _one_step(learner: loop.Learner, epoch: Iterator[tuple[Tensor, Tensor]]) -> dict[str, float]:
    seconds, optimizer = {}, learner.optimizer
    seconds["load, augment, collate"], (images, targets) = timed(lambda: next(epoch))
    seconds["forward"], logits = timed(lambda: learner.prepared(images))
    seconds["loss"], loss = timed(lambda: learner.criterion(logits, targets))
    seconds["backward"], _ = timed(loss.backward)
    seconds["optimizer"], _ = timed(lambda: (optimizer.step(), optimizer.zero_grad()))
    seconds["EMA"], _ = timed(lambda: learner.ema and learner.ema.update(learner.model, step=1))
    return seconds


class Decoded:
    """Stands for ``Crops.pixels``: a crop is decoded and cut from its photo whenever it is read."""

    def __init__(
        self, crops: Crops, images: pd.DataFrame, found: pd.DataFrame, data_dir: str | Path
    ):
        table = pd.read_parquet(crops.folder / "crops.parquet")
        self.files, self.faces, self.boxes = made_from(table, images, found, data_dir)
        self.size = stored_size(crops.image_size)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the crop (H, W, 3) RGB uint8."""
        return make_crop(self.files[row], self.faces[row], self.boxes[row], self.size, "keep")


def with_pixels(data: Epochs, pixels: np.ndarray | Decoded) -> Epochs:
    """Return the same epochs of photos whose stored crops are ``pixels``."""
    photos = copy(data.photos)
    photos.crops = [replace(crops, pixels=pixels) for crops in photos.crops]
    return replace(data, photos=photos)


def load_epoch(data: Epochs) -> Callable[[], int]:
    """Return a call that goes through an epoch without training and counts its photos."""
    return lambda: sum(len(images) for images, _ in data(0))
