import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TASK

from lib.data.index import load_images
from lib.face import crops
from lib.learn import batches, loop, mixers, precision, samplers, sizes, training_set

GEOMETRY = {"crop": "face", "crop_margin": 0.25, "background": "keep", "image_size": [32, 32]}


@pytest.fixture
def sources(tiny_work):
    cache = crops.open_crops(tiny_work, **GEOMETRY)
    photos = training_set.with_crops(load_images(tiny_work), cache, "train").iloc[:61]
    return [
        training_set.people_source(TASK, name, part, cache, {})
        for name, part in (("a", photos[:40]), ("b", photos[40:]))
    ]


@pytest.fixture
def made(sources):
    def make(seed=0, augment=("light",), accumulate=1, **settings):
        photos = batches.Photos(sources, augment, [32, 32], seed)
        defaults = {
            "sampler": "weighted",
            "balance": 1.0,
            "batch_size": 16,
            "mixer": mixers.make_mixer("none", 1.0, 1.0),
            "epochs": 3,
        }
        rest = {"mixer_off_epochs": 0, "memory_format": torch.contiguous_format}
        accelerator = precision.accelerator(precision.PRECISIONS["fp32"], accumulate)
        classes = training_set.classes(TASK, sources, [], {})
        return batches.Epochs(
            photos, classes, accelerator=accelerator, **defaults | rest | settings
        )

    return make


def shown(epoch):
    images, targets = zip(*epoch, strict=True)
    return torch.cat(images), torch.cat(targets)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("mixer", ["none", "mixup_cutmix", "half_face"])
def test_an_epoch_is_the_same_whenever_and_however_it_is_asked_for(made, mixer):
    settings = {"mixer": mixers.make_mixer(mixer, 1.0, 0.7)}
    alone = made(**settings)
    first = shown(alone(1))
    shown(alone(0))
    torch.rand(7), np.random.random(3)  # noqa: NPY002 - draws from the global generators must not matter
    assert same(first, shown(alone(1)))
    assert same(first, shown(made(workers=1, **settings)(1)))


def test_epochs_and_seeds_differ(made):
    first = shown(made()(0))
    assert not same(first, shown(made()(1)))
    assert not same(first, shown(made(seed=1)(0)))


def test_images_are_pixels_and_targets_are_the_photos_own(made, sources):
    epochs = made(augment=["none"], sampler="plain")
    images, targets = shown(epochs(0))
    assert images.dtype == torch.float32
    assert images.shape == (61, 3, 32, 32)
    order = epochs.indices(0)
    assert torch.equal(targets, training_set.joined_targets(sources)[order])
    keys = sources[0].keys.append(sources[1].keys)[order]
    stored = sources[0].crops.pixels[sources[0].crops.rows(keys)][:, 2:34, 2:34]
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), stored)


def test_a_photo_shown_twice_differs(made):
    photos = made().photos
    assert not torch.equal(photos[0, 5][0], photos[1, 5][0])
    assert torch.equal(photos[0, 5][0], photos[0, 5][0])
    assert torch.equal(photos[0, 5][1], photos[1, 5][1])


@pytest.mark.parametrize(("photos", "size"), [(61, 16), (33, 32), (64, 32), (5, 32), (1, 1)])
def test_batches_are_even_and_drop_nothing(photos, size):
    cut = batches.even_batches(np.arange(photos)[::-1], size)
    sizes = [len(batch) for batch in cut]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(cut) == np.ceil(photos / size)
    assert [place for batch in cut for place, _ in batch] == list(range(photos))
    assert [photo for batch in cut for _, photo in batch] == list(range(photos))[::-1]


@pytest.mark.parametrize(
    ("photos", "size", "processes"), [(61, 16, 2), (64, 8, 2), (30, 16, 4), (9, 16, 3)]
)
def test_every_process_has_as_many_batches(photos, size, processes):
    cut = batches.even_batches(np.arange(photos), size, processes)
    assert len(cut) == processes * np.ceil(photos / (size * processes))
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    assert [place for batch in cut for place, _ in batch] == list(range(photos))


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_the_sampler_decides_what_is_shown(made, sampler):
    epochs = made(sampler=sampler)
    rng = np.random.default_rng([0, 2])
    np.testing.assert_array_equal(
        epochs.indices(2), samplers.epoch_indices(sampler, 1.0, epochs.classes, rng)
    )
    labels = shown(epochs(2))[1].sum(3).flatten(1).argmax(1)
    assert torch.equal(labels, epochs.photos.targets.sum(3).flatten(1).argmax(1)[epochs.indices(2)])


def test_the_mixer_rests_in_the_last_epochs(made):
    epochs = made(mixer=mixers.make_mixer("mixup", 1.0, 1.0), mixer_off_epochs=1)
    mixed = [(shown(epochs(epoch))[1].amax((1, 2, 3)) < 1).any().item() for epoch in range(3)]
    assert mixed == [True, True, False]


@pytest.mark.parametrize("mixer", ["none", "face_cutmix"])
def test_an_epoch_of_small_pictures_is_the_whole_one_made_smaller(made, mixer):
    whole = made(mixer=mixers.make_mixer(mixer, 1.0, 0.7))
    last = {"memory_format": torch.channels_last}
    growing = made(mixer=mixers.make_mixer(mixer, 1.0, 0.7), size_from=0.5, **last)
    for epoch, side in enumerate([16, 32, 32]):  # sides are multiples of 16
        (images, targets), expected = shown(growing(epoch)), shown(whole(epoch))
        assert images.shape[2:] == (side, side)
        assert next(iter(growing(epoch)))[0].is_contiguous(memory_format=torch.channels_last)
        assert same((images, targets), (sizes.shrink(expected[0], (side, side)), expected[1]))


def test_max_batches_cuts_an_epoch_short(made):
    epochs = made(max_batches=2)
    assert len(epochs(0)) == len(list(epochs(0))) == epochs.updates == 2


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 4), (2, 2), (3, 2), (8, 1)])
def test_updates_are_the_optimizer_steps_that_an_epoch_takes(made, accumulate, updates):
    epochs = made(accumulate=accumulate)
    model = torch.nn.Linear(1, 1)
    steps = 0
    for epoch in range(2):
        for _ in epochs(epoch):
            with epochs.accelerator.accumulate(model):
                steps += epochs.accelerator.sync_gradients
    assert epochs.updates == updates
    assert steps == 2 * updates


def test_a_worker_that_dies_is_told_with_its_photos(made, monkeypatch):
    epoch = made(workers=1, sampler="plain")(0)
    (_, victim), key = epoch.batches[0][3], epoch.keys(0)[3]
    item = batches.Photos.__getitem__

    def dies(photos, place_and_photo):
        if place_and_photo[1] == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return item(photos, place_and_photo)

    monkeypatch.setattr(batches.Photos, "__getitem__", dies)
    learner = SimpleNamespace(prepared=torch.nn.Linear(1, 1))
    with pytest.raises(loop.TrainingError, match=f"A worker died in epoch, batch 1: .*{key}"):
        loop.train_epoch(learner, epoch, "epoch")
