"""From stored crops to batches on the device: an epoch depends on the seed and its number alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib.learn import augment, sizes
from lib.learn.mixers import Mixer, unmixed
from lib.learn.samplers import Classes, epoch_indices
from lib.learn.training_set import Source, joined_targets
from lib.workers import even_shares


class Photos(Dataset):
    """The training photos of all sources, augmented; an item is asked for by (place, photo).

    It is an image uint8 (H, W, 3), its soft target, and its face box (4,) in pixels of that image.
    Random draws start from seed, epoch and place in the epoch, in whichever process.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        augment_names: Sequence[str],
        image_size: Sequence[int],
        seed: int,
    ):
        self.crops = [source.crops for source in sources]
        self.rows = [
            (number, row)
            for number, source in enumerate(sources)
            for row in source.crops.rows(source.keys)
        ]
        self.keys = [key for source in sources for key in source.keys]
        self.targets = joined_targets(sources)
        self.transform = augment.pipeline(augment_names, image_size)
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place_and_photo: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return an augmented photo."""
        place, photo = place_and_photo
        number, row = self.rows[photo]
        crops = self.crops[number]
        augment.reseed(self.transform, self.seed, self.epoch, place)
        image, box = augment.apply(self.transform, np.asarray(crops.pixels[row]), crops.boxes[row])
        return torch.from_numpy(image), self.targets[photo], torch.from_numpy(box)


Batch = list[tuple[int, int]]  # (place in the epoch, photo)


def even_batches(indices: np.ndarray, batch_size: int, processes: int = 1) -> list[Batch]:
    """Cut an epoch into batches, as many for each process, whose sizes differ by one at most."""
    places = list(enumerate(indices.tolist()))
    shares = even_shares(range(len(places)), batch_size, processes)
    return [[places[k] for k in share] for share in shares]


@dataclass
class Epochs:
    """Called with an epoch's number (from 0) it yields images (N, 3, H, W) in 0..255 and targets.

    The mixer rests in the last ``mixer_off_epochs`` of ``epochs``; pictures grow from the share
    ``size_from`` of their sides to the whole in the last epoch; ``max_batches`` cuts every epoch
    short (0: whole); ``workers`` processes prepare batches ahead (0: none).
    """

    photos: Photos
    classes: Classes
    sampler: str
    balance: float
    batch_size: int
    mixer: Mixer
    mixer_off_epochs: int
    epochs: int
    accelerator: Accelerator
    memory_format: torch.memory_format
    workers: int = 0
    max_batches: int = 0
    size_from: float = 1.0

    def indices(self, epoch: int) -> np.ndarray:
        """Return the rows that an epoch shows, in its order."""
        rng = np.random.default_rng([self.photos.seed, epoch])
        return epoch_indices(self.sampler, self.balance, self.classes, rng)

    @property
    def updates(self) -> int:
        """Return how many optimizer steps an epoch takes."""
        return -(-len(self(0)) // self.accelerator.gradient_accumulation_steps)

    def batches(self, epoch: int) -> list[Batch]:
        """Return an epoch's batches, those of all processes."""
        processes = self.accelerator.num_processes
        whole = even_batches(self.indices(epoch), self.batch_size, processes)
        return whole[: self.max_batches * processes or None]

    def size(self, images: Tensor, epoch: int) -> tuple[int, ...]:
        """Return height and width that an epoch shows of images (N, 3, H, W)."""
        return sizes.by_epoch(images.shape[2:], self.size_from, self.epochs)[epoch]

    def __call__(self, epoch: int) -> "Epoch":
        """Return an epoch's batches, seeded by (seed, epoch) alone."""
        return Epoch(self, epoch)


class Epoch:
    """One process's pass over its batches, with a length for the progress bar."""

    def __init__(self, epochs: Epochs, epoch: int):
        self.epochs, self.epoch, self.batches = epochs, epoch, epochs.batches(epoch)

    def __len__(self) -> int:
        return len(self.batches) // self.epochs.accelerator.num_processes

    def keys(self, step: int) -> list[str]:
        """Return the keys of the photos in a batch of this process, from 0."""
        accelerator = self.epochs.accelerator
        batch = self.batches[step * accelerator.num_processes + accelerator.process_index]
        return [self.epochs.photos.keys[photo] for _, photo in batch]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epochs = self.epochs
        epochs.photos.epoch = self.epoch
        seed = np.random.SeedSequence([epochs.photos.seed, self.epoch]).generate_state(1)[0]
        set_seed(int(seed))  # mixers and dropout
        mixing = self.epoch < epochs.epochs - epochs.mixer_off_epochs
        mixer = epochs.mixer if mixing else unmixed
        loader = DataLoader(
            epochs.photos,
            batch_sampler=self.batches,
            num_workers=epochs.workers,
            worker_init_fn=_start_worker,
            pin_memory=epochs.accelerator.device.type == "cuda",
        )
        for images, targets, boxes in epochs.accelerator.prepare(loader):
            images = images.permute(0, 3, 1, 2).float()
            images = images.contiguous(memory_format=epochs.memory_format)
            images, targets = mixer(images, targets, boxes)
            images = sizes.shrink(images, epochs.size(images, self.epoch))
            yield images.contiguous(memory_format=epochs.memory_format), targets


def _start_worker(worker: int) -> None:
    """Keep a worker to one thread, or workers slow each other down."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
