"""Trains a small model on 64 photos of a tiny set: in the process of a test, or in each of those that accelerate starts."""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from lib.data.dataset import load_images
from lib.face import crops
from lib.learn import batches, mixers, precision, train, training_set


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
    """Train, leaving best.pt, last.pt and history.csv in ``folder``; the score is not the same in all processes."""
    cache = crops.open_crops(work_dir, crop="face", crop_margin=0.25, background="keep", image_size=[32, 32])
    photos = training_set.with_crops(load_images(work_dir), cache, "train").iloc[:64]
    source = training_set.of_people("people", photos, cache, [])
    manager = precision.accelerator(precision.PRECISIONS["fp32"])
    data = batches.Epochs(
        batches.Photos([source], ["none"], [32, 32], 0), training_set.classes([source], "all", 60), "plain", batch_size,
        mixers.unmixed, 0, 2, manager, torch.contiguous_format,
    )  # fmt: skip
    model = Colours()
    optimizer = train.make_optimizer(model, "sgd", 0.1, 0.0)
    settings = {"warmup_epochs": 0, "min_learning_rate": 0.0, "decay_epochs": 2.0, "decay_rate": 0.1}
    scheduler = train.make_scheduler(optimizer, "cosine", epochs=2, updates=data.updates, **settings)
    learner = train.Learner.create(model, MaskLoss(), optimizer, scheduler, manager, 0.9)
    scores = {"score": float(manager.process_index)}
    train.fit(learner, data, epochs=2, evaluate=lambda model: scores, folder=Path(folder), patience=1)
    assert learner.updates == 2 * data.updates == 8


if __name__ == "__main__":
    train_two_epochs(sys.argv[1], sys.argv[2], int(sys.argv[3]))
