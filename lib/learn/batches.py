"""From stored crops to batches on the device: an epoch is the same whenever it is asked for with the same seed and number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib.learn import augment
from lib.learn.mixers import Mixer, unmixed
from lib.learn.samplers import epoch_indices
from lib.learn.training_set import Source, joined_targets
from lib.workers import even_shares


class Photos(Dataset):
    """The training photos of all sources, augmented; asked for by (place in the epoch, photo).

    An item is an image uint8 (H, W, 3), its joint target (3, 2, 43) and its face box (4,) in pixels of that image. Random
    draws start from seed, epoch and place: a photo shown twice differs, and whichever process augments it does it alike.
    """

    def __init__(self, sources: Sequence[Source], augment_names: Sequence[str], image_size: Sequence[int], seed: int):
        self.crops = [source.crops for source in sources]
        self.rows = [(number, row) for number, source in enumerate(sources) for row in source.crops.rows(source.keys)]
        self.targets = joined_targets(sources)
        self.transform = augment.pipeline(augment_names, image_size)
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place_and_photo: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return an augmented photo."""
        place, photo = place_and_photo
        number, row = self.rows[photo]
        augment.reseed(self.transform, self.seed, self.epoch, place)
        image, box = augment.apply(self.transform, np.asarray(self.crops[number].pixels[row]), self.crops[number].boxes[row])
        return torch.from_numpy(image), self.targets[photo], torch.from_numpy(box)


def even_batches(indices: np.ndarray, batch_size: int, processes: int = 1) -> list[list[tuple[int, int]]]:
    """Cut an epoch into batches of (place, photo), as many for each process, whose sizes differ by one at most.

    So there is no tiny last batch, and nothing is dropped.
    """
    places = list(enumerate(indices.tolist()))
    return [[places[k] for k in share] for share in even_shares(range(len(places)), batch_size, processes)]


@dataclass
class Epochs:
    """Called with an epoch's number (from 0) it yields (images float (N, 3, H, W) in 0..255, targets (N, 3, 2, 43)).

    ``classes`` (n,) are what the sampler balances; the mixer rests in the last ``mixer_off_epochs`` of ``epochs``;
    ``max_batches`` cuts every epoch short (0: whole); ``workers`` processes prepare batches ahead (0: none). Where accelerate
    runs several processes, each goes through its own share of the batches.
    """

    photos: Photos
    classes: np.ndarray
    sampler: str
    batch_size: int
    mixer: Mixer
    mixer_off_epochs: int
    epochs: int
    accelerator: Accelerator
    memory_format: torch.memory_format
    workers: int = 0
    max_batches: int = 0

    def indices(self, epoch: int) -> np.ndarray:
        """Return the rows that an epoch shows, in its order."""
        return epoch_indices(self.sampler, self.classes, np.random.default_rng([self.photos.seed, epoch]))

    @property
    def updates(self) -> int:
        """Return how many optimizer steps an epoch takes."""
        return -(-len(self(0)) // self.accelerator.gradient_accumulation_steps)

    def batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """Return an epoch's (place, photo) by batch, those of all processes."""
        processes = self.accelerator.num_processes
        return even_batches(self.indices(epoch), self.batch_size, processes)[: self.max_batches * processes or None]

    def __call__(self, epoch: int) -> "Epoch":
        """Return an epoch's batches, seeded by (seed, epoch) alone."""
        return Epoch(self, epoch)


class Epoch:
    """One process's pass over its batches, with a length for the progress bar."""

    def __init__(self, epochs: Epochs, epoch: int):
        self.epochs, self.epoch, self.batches = epochs, epoch, epochs.batches(epoch)

    def __len__(self) -> int:
        return len(self.batches) // self.epochs.accelerator.num_processes

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epochs = self.epochs
        epochs.photos.epoch = self.epoch
        set_seed(int(np.random.SeedSequence([epochs.photos.seed, self.epoch]).generate_state(1)[0]))  # mixers and dropout
        mixing = self.epoch < epochs.epochs - epochs.mixer_off_epochs
        mixer = epochs.mixer if mixing else unmixed
        for images, targets, boxes in epochs.accelerator.prepare(self._loader()):
            images = images.permute(0, 3, 1, 2).float().contiguous(memory_format=epochs.memory_format)
            yield mixer(images, targets, boxes)

    def _loader(self) -> DataLoader:
        return DataLoader(
            self.epochs.photos,
            batch_sampler=self.batches,
            num_workers=self.epochs.workers,
            worker_init_fn=_start_worker,
            pin_memory=self.epochs.accelerator.device.type == "cuda",
        )


def _start_worker(worker: int) -> None:
    """One thread a worker, or they slow each other."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
