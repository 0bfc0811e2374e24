"""Trains a small model on 64 photos: in a test's process, or in each that accelerate starts."""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from lib.data.index import load_images
from lib.face import crops
from lib.learn import loop, precision, recipe, training_set
from lib.runner.parameters import declared
from lib.runner.stages import notebook_of
from lib.task.attributes import load

PARAMS = {name: value.default for name, value in declared(notebook_of("train")).items()} | {
    "image_size": [32, 32],
    "augment": ["none"],
    "sampler": "plain",
    "epochs": 2,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "warmup_epochs": 0,
    "min_learning_rate": 0.0,
}


class Colours(nn.Module):
    """A line through the mean colour of a photo; ``rest`` is frozen, as a backbone may be."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rest, self.line = nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3)

    def forward(self, images):
        return self.line(images.mean((2, 3)) / 255)


class MaskLoss(nn.Module):
    def forward(self, logits, targets):
        return F.cross_entropy(logits, targets.sum((2, 3)))


def train_two_epochs(work_dir, folder, batch_size):
    """Leave best.pt, last.pt and history.csv in ``folder``; processes score differently."""
    params, task, chosen = (
        PARAMS | {"batch_size": batch_size},
        load("mask"),
        precision.PRECISIONS["fp32"],
    )
    cache = crops.open_crops(work_dir, **crops.geometry(params))
    photos = training_set.with_crops(load_images(work_dir), cache, "train").iloc[:64]
    source = training_set.people_source(task, "people", photos, cache, {})
    manager = recipe.accelerator(params, chosen)
    data = recipe.epochs(params, task, [source], manager, chosen)
    model = Colours()
    optimizer = recipe.optimizer(params, model)
    scheduler = recipe.scheduler(params, optimizer, data.updates)
    learner = loop.Learner.create(model, MaskLoss(), optimizer, scheduler, manager, 0.9)
    scores = {"score": float(manager.process_index)}
    loop.fit(
        learner, data, epochs=2, evaluate=lambda model: scores, folder=Path(folder), patience=1
    )
    assert learner.updates == 2 * data.updates == 8


if __name__ == "__main__":
    train_two_epochs(sys.argv[1], sys.argv[2], int(sys.argv[3]))
