import numpy as np
import pytest
import torch
from conftest import TASK

from lib.errors import ParameterError
from lib.learn import mixers
from lib.task.targets import one_hot

HEIGHT, WIDTH = 48, 40


@pytest.fixture(autouse=True)
def seeds():
    seed(0)


def seed(value):
    torch.manual_seed(value)
    np.random.seed(value)  # noqa: NPY002 timm draws from the global generator


def batch(n):
    """Return photos whose value is their number, random joint targets and boxes."""
    images = torch.arange(n).float()[:, None, None, None].expand(n, 3, HEIGHT, WIDTH).clone()
    targets = torch.rand(n, 3 * 2 * 43).softmax(dim=1).view(n, 3, 2, 43)
    start = torch.rand(n, 2) * 8
    return images, targets, torch.cat([start, start + 20 + 8 * torch.rand(n, 2)], dim=1)


def face(box):
    x0, y0, x1, y1 = box.round().long().tolist()
    return slice(y0, y1), slice(x0, x1)


def sources(image, i):
    """Return the partner of photo ``i`` (or ``i``), read from the pixels."""
    values = image.unique().long().tolist()
    assert len(values) <= 2
    return next((value for value in values if value != i), i)


@pytest.mark.parametrize("name", mixers.MIXERS)
@pytest.mark.parametrize("n", [1, 7, 8])
def test_shapes_and_probability_mass_are_kept_and_inputs_unchanged(name, n):
    images, targets, boxes = batch(n)
    originals = images.clone(), targets.clone(), boxes.clone()
    for _ in range(5):
        mixed, mixed_targets = mixers.make_mixer(name, 1.0, 1.0)(images, targets, boxes)
        assert mixed.shape == images.shape
        assert mixed_targets.shape == targets.shape
        torch.testing.assert_close(mixed_targets.sum(dim=(1, 2, 3)), torch.ones(n))
        assert (mixed_targets >= 0).all()
    for now, original in zip((images, targets, boxes), originals, strict=True):
        assert torch.equal(now, original)


@pytest.mark.parametrize("name", mixers.MIXERS)
def test_the_seeds_repeat_the_draws(name):
    mixer, data = mixers.make_mixer(name, 1.0, 0.7), batch(8)
    seed(3)
    first = [mixer(*data) for _ in range(3)]
    seed(3)
    for images, targets in first:
        again = mixer(*data)
        assert torch.equal(images, again[0])
        assert torch.equal(targets, again[1])


@pytest.mark.parametrize("name", mixers.MIXERS)
def test_probability_0_mixes_nothing(name):
    images, targets, boxes = batch(8)
    mixed, mixed_targets = mixers.make_mixer(name, 1.0, 0.0)(images, targets, boxes)
    assert torch.equal(mixed, images)
    assert torch.equal(mixed_targets, targets)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "mixup_cutmix"])
def test_target_shares_are_the_pixels_shares_over_the_picture(name):
    for _ in range(10):
        images, targets, boxes = batch(7)
        mixed, mixed_targets = mixers.make_mixer(name, 1.0, 1.0)(images, targets, boxes)
        kept = 1 - (mixed - images).mean(dim=(1, 2, 3)) / (images.flip(0) - images)[:, 0, 0, 0]
        kept[3] = 1.0  # the middle of an odd batch is its own partner
        kept = kept[:, None, None, None]
        torch.testing.assert_close(
            mixed_targets, kept * targets + (1 - kept) * targets.flip(0), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("name", ["face_cutmix", "half_face"])
def test_target_shares_are_the_pixels_shares_of_the_face_box(name):
    images, targets, boxes = batch(9)
    mixed, mixed_targets = mixers.make_mixer(name, 1.0, 1.0)(images, targets, boxes)
    for i in range(9):
        partner = sources(mixed[i], i)
        share = (mixed[i, 0][face(boxes[i])] != i).float().mean()
        torch.testing.assert_close(
            mixed_targets[i], (1 - share) * targets[i] + share * targets[partner]
        )


def test_face_cutmix_stays_inside_the_face_and_takes_from_the_partners_face():
    images, targets, boxes = batch(9)
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    images[:, 1], images[:, 2] = y, x  # the pixels carry where they come from
    mixed, _ = mixers.make_mixer("face_cutmix", 1.0, 1.0)(images, targets, boxes)
    for i in range(9):
        changed = mixed[i, 0] != i
        outside = torch.ones_like(changed)
        outside[face(boxes[i])] = False
        assert not (changed & outside).any()
        if changed.any():
            rows, columns = face(boxes[sources(mixed[i, 0], i)])
            _, from_y, from_x = mixed[i][:, changed]
            assert (
                from_y.min() >= rows.start - 8
            )  # a partner's face that is smaller than the cut is left by the difference
            assert from_x.max() <= columns.stop + 8


def test_half_face_leaves_each_half_pixel_identical():
    images, targets, _ = batch(8)
    images = torch.rand_like(images)
    boxes = torch.tensor([[8.0, 10.0, 32.0, 40.0]]).expand(8, 4)
    mixed, mixed_targets = mixers.make_mixer("half_face", 1.0, 1.0)(images, targets, boxes)
    for i in range(8):
        same = [(mixed[i] == images[j]).all(dim=(0, 1)) for j in range(8)]  # by column
        left = int(same[i].sum())
        if left == WIDTH:  # its own partner
            continue
        assert same[i][:left].all()
        partner = next(j for j in range(8) if same[j][left:].all())
        assert 0.46 - 0.03 <= (left - 8) / 24 <= 0.54 + 0.03  # in whole pixels
        share = (32 - left) / 24
        torch.testing.assert_close(
            mixed_targets[i], (1 - share) * targets[i] + share * targets[partner]
        )


def test_half_face_brings_faces_at_different_places_together(monkeypatch):
    monkeypatch.setattr(mixers, "_partners", lambda faces, probability: torch.tensor([1, 0]))
    images = torch.zeros(2, 3, HEIGHT, WIDTH)
    boxes = torch.tensor([[4.0, 6.0, 24.0, 26.0], [14.0, 20.0, 34.0, 40.0]])
    for i in range(2):
        images[(i, slice(None), *face(boxes[i]))] = (
            torch.arange(20.0) + 1 + 100 * i
        )  # a face numbers its columns
    mixed, _ = mixers.make_mixer("half_face", 1.0, 1.0)(images, torch.rand(2, 3, 2, 43), boxes)
    row = mixed[0, 0, 15, 4:24]
    assert torch.equal(row % 100, torch.arange(20.0) + 1)
    assert 9 <= int((row < 100).sum()) <= 11
    assert torch.equal(mixed[0, 0, 6:26, 20], torch.full((20,), 117.0))  # level, too


@pytest.mark.parametrize("name", ["face_cutmix", "half_face"])
def test_a_photo_whose_face_has_left_the_picture_is_left_alone(name):
    images, targets, boxes = batch(6)
    boxes[2] = torch.tensor([WIDTH, 5.0, WIDTH, 20.0])
    for _ in range(5):
        mixed, mixed_targets = mixers.make_mixer(name, 1.0, 1.0)(images, targets, boxes)
        assert torch.equal(mixed[2], images[2])
        assert torch.equal(mixed_targets[2], targets[2])
        assert not (mixed[[0, 1, 3, 4, 5]] == 2).any()


@pytest.mark.parametrize(
    ("name", "alpha", "probability"),
    [("halfface", 1.0, 1.0), ("mixup", 0.0, 1.0), ("mixup", 1.0, 1.5)],
)
def test_wrong_values_are_refused(name, alpha, probability):
    with pytest.raises(ParameterError, match="mixer"):
        mixers.make_mixer(name, alpha, probability)


def crowd():
    """Return photos as ``batch`` does, of known classes: gender, and number of the age."""
    images, _, boxes = batch(24)
    gender, age = np.arange(24) % 2, np.array([22, 45, 60, 60])[np.arange(24) // 2 % 4]
    people = {"mask": np.arange(24) % 3, "gender": gender, "age": age}
    return (images, one_hot(TASK, people), boxes), gender, age


@pytest.mark.parametrize("name", ["mixup", "cutmix", "face_cutmix", "half_face"])
def test_within_a_class_only_its_photos_are_mixed_and_only_with_each_other(name):
    (images, targets, boxes), _, age = crowd()
    within = mixers.Within(mixers.make_mixer(name, 1.0, 1.0), TASK, {"age": [2]}, {})
    mixed, mixed_targets = within(images, targets, boxes)
    old = torch.from_numpy(age == 60)
    assert torch.equal(mixed[~old], images[~old])
    assert torch.equal(mixed_targets[~old], targets[~old])
    assert not torch.equal(mixed[old], images[old])
    seed(0)
    alone = within.mixer(images[old], targets[old], boxes[old])
    seed(0)
    again = within(images, targets, boxes)
    assert all(torch.equal(a[old], b) for a, b in zip(again, alone, strict=True))
    torch.testing.assert_close(mixed_targets[old].sum((1, 2))[:, -1], torch.ones(12))


def test_several_classes_are_mixed_each_by_itself():
    (images, targets, boxes), gender, age = crowd()
    classes = {"gender": [0, 1], "age": [0, 2]}
    within = mixers.Within(mixers.make_mixer("cutmix", 1.0, 1.0), TASK, classes, {})
    partners = set()
    for _ in range(10):
        mixed, _ = within(images, targets, boxes)
        partners |= {(i, sources(mixed[i], i)) for i in range(24)}
    assert all(gender[i] == gender[j] and age[i] == age[j] for i, j in partners)
    alone = {8, 9}  # in the middle of three: its own partner
    assert {i for i, j in partners if i != j} == {i for i in range(24) if age[i] != 45} - alone


def test_the_cuts_of_training_say_which_class_a_photo_has():
    (images, targets, boxes), _, age = crowd()
    mixup = mixers.make_mixer("mixup", 1.0, 1.0)
    mixed, _ = mixers.Within(mixup, TASK, {"age": [2]}, {"age": (30, 45)})(images, targets, boxes)
    alone = (mixed == images).all(dim=(1, 2, 3)).numpy()
    assert alone[age == 22].all()
    assert not alone[age == 45].all()


def test_a_batch_without_the_class_stays_as_it_is():
    (images, targets, boxes), _, age = crowd()
    young = torch.from_numpy(age < 30)
    for name in mixers.MIXERS:
        within = mixers.Within(mixers.make_mixer(name, 1.0, 1.0), TASK, {"age": [2]}, {})
        mixed, _ = within(images[young], targets[young], boxes[young])
        assert torch.equal(mixed, images[young])
