"""Batch mixers: ``(images (N, 3, H, W), targets (N, ...), boxes (N, 4)) -> (images, targets)``.

Targets are soft and are mixed by the same shares as the pixels, so that their sum stays the same.
Boxes are the faces, (x0, y0, x1, y1) in pixels of the images. Nothing is changed in place. A new
mixer is an entry of MIXERS.

mixup and CutMix are timm's and draw from numpy's global generator, once per batch; the face mixers
draw from torch's global CPU generator, once per photo.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from timm.data import Mixup
from torch import Tensor

from lib.errors import ParameterError, pick
from lib.task.attributes import Task
from lib.task.targets import Cuts, grouped

CUT = (0.46, 0.54)  # where half-face CutMix divides a face, in shares of its width (1st place 2022)

Mixer = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def make_mixer(name: str, alpha: float, probability: float) -> Mixer:
    """Return the mixer ``name`` of MIXERS.

    ``alpha`` > 0 shapes the Beta(alpha, alpha) that draws the mixed share (not for half_face);
    ``probability`` 0..1 is the chance of mixing, per batch, or per photo for the face mixers.
    """
    build = pick(MIXERS, name, "mixer")
    if not alpha > 0:
        raise ParameterError(f"mixer_alpha={alpha!r} must be above 0; 0.2 to 1 is usual")
    if not 0 <= probability <= 1:
        raise ParameterError(f"mixer_probability={probability!r} must be from 0 to 1")
    return build(alpha, probability)


def unmixed(images: Tensor, targets: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return images and targets as they are."""
    return images, targets


@dataclass(frozen=True)
class Within:
    """A mixer for photos of one class only: ``classes`` are mixed by attribute, others left alone.

    Of several attributes every combination is mixed by itself. A photo's class is its target's
    likeliest, by the ``cuts`` of training.
    """

    mixer: Mixer
    task: Task
    classes: Mapping[str, Sequence[int]]
    cuts: Cuts

    def __call__(self, images: Tensor, targets: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed images and targets."""
        found = [grouped(self.task, targets, name, self.cuts).argmax(1) for name in self.classes]
        images, targets = images.clone(), targets.clone()
        for combination in product(*self.classes.values()):
            pairs = zip(found, combination, strict=True)
            alike = torch.stack([own == wanted for own, wanted in pairs]).all(0)
            mixed = self.mixer(images[alike], targets[alike], boxes[alike])
            images[alike], targets[alike] = mixed
        return images, targets


class SoftMixup(Mixup):
    """timm's mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) for soft targets.

    The photo at place i is mixed with the one at N - 1 - i. timm's own call needs an even batch and
    targets (N, classes); how it draws and mixes pixels is used unchanged.
    """

    def __call__(self, images: Tensor, targets: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed images and targets; boxes are not needed."""
        images = images.clone()  # timm mixes in place
        kept = self._mix_batch(images)
        return images, torch.lerp(targets.flip(0), targets, kept)


def face_cutmix(
    images: Tensor, targets: Tensor, boxes: Tensor, alpha: float, probability: float
) -> tuple[Tensor, Tensor]:
    """CutMix that swaps no background: the rectangle lies inside the receiving photo's face box.

    The rectangle has the box's proportions and a Beta-drawn share of its area. What fills it is as
    large, and lies at the same relative place in the partner's face box.
    """
    faces = _pixels(boxes, images)
    partner = _partners(faces, probability)
    share = torch.distributions.Beta(alpha, alpha).sample((len(faces), 1))
    place = torch.rand(len(faces), 2)
    start, size = faces[:, :2], faces[:, 2:] - faces[:, :2]
    cut = (size * share.sqrt()).round().long()
    corner = start + (place * (size - cut)).round().long()
    origin = start[partner] + (place * (size[partner] - cut)).round().long()
    region = torch.cat([corner, corner + cut], dim=1)
    return _paste(images, targets, faces, partner, region, origin - corner)


def half_face(
    images: Tensor, targets: Tensor, boxes: Tensor, probability: float
) -> tuple[Tensor, Tensor]:
    """Vertical-half CutMix (1st place 2022): left half of one photo, right half of another.

    Both are cut at the same fraction of their face boxes' widths, drawn from CUT; the partner is
    shifted by whole pixels so that the cuts meet and the boxes' centres are level.
    """
    faces = _pixels(boxes, images)
    partner = _partners(faces, probability)
    x0, y0, x1, y1 = faces.unbind(dim=1)
    fraction, middle = torch.empty(len(faces)).uniform_(*CUT), (y0 + y1) // 2
    cut = (x0 + fraction * (x1 - x0)).round().long()
    cut_partner = (x0[partner] + fraction * (x1 - x0)[partner]).round().long()
    height, width = images.shape[2:]
    edges = torch.tensor([0, width, height]).expand(len(faces), 3)
    region = torch.cat([cut[:, None], edges], dim=1)
    shift = torch.stack([cut_partner - cut, middle[partner] - middle], dim=1)
    return _paste(images, targets, faces, partner, region, shift)


MIXERS: dict[str, Callable[[float, float], Mixer]] = {  # of alpha and probability
    "none": lambda a, p: unmixed,
    "mixup": lambda a, p: SoftMixup(mixup_alpha=a, cutmix_alpha=0.0, prob=p),
    "cutmix": lambda a, p: SoftMixup(mixup_alpha=0.0, cutmix_alpha=a, prob=p),
    "mixup_cutmix": lambda a, p: SoftMixup(mixup_alpha=a, cutmix_alpha=a, prob=p, switch_prob=0.5),
    "face_cutmix": lambda a, p: partial(face_cutmix, alpha=a, probability=p),
    "half_face": lambda a, p: partial(half_face, probability=p),
}


def _pixels(boxes: Tensor, images: Tensor) -> Tensor:
    """Return boxes in whole pixels, clipped to the images: int64 (N, 4), on the CPU."""
    height, width = images.shape[2:]
    largest = torch.tensor([width, height, width, height])
    return boxes.cpu().round().long().clamp(min=0).minimum(largest)


def _partners(faces: Tensor, probability: float) -> Tensor:
    """Return a partner for each photo: itself where none is drawn or a face is outside."""
    partner = torch.randperm(len(faces))
    has_face = (faces[:, 2:] > faces[:, :2]).all(dim=1)
    drawn = (torch.rand(len(faces)) < probability) & has_face & has_face[partner]
    return partner.where(drawn, torch.arange(len(faces)))


def _paste(
    images: Tensor, targets: Tensor, faces: Tensor, partner: Tensor, region: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill ``region`` (N, 4) with the partner's pixels ``shift`` (N, 2: right, down) away, if any.

    The partner's share of the target is the share of the face box that was filled.
    """
    size = torch.tensor([images.shape[3], images.shape[2]])  # width, height, as the boxes go
    start = region[:, :2].maximum(-shift).clamp(min=0)
    end = region[:, 2:].minimum(size - shift).minimum(size).maximum(start)
    mixed = images.clone()
    moves = torch.cat([partner[:, None], start, end, shift], dim=1).tolist()
    for i, (j, x0, y0, x1, y1, right, down) in enumerate(moves):
        mixed[i, :, y0:y1, x0:x1] = images[j, :, y0 + down : y1 + down, x0 + right : x1 + right]
    overlap = (end.minimum(faces[:, 2:]) - start.maximum(faces[:, :2])).clamp(min=0).prod(dim=1)
    share = (overlap / (faces[:, 2:] - faces[:, :2]).prod(dim=1).clamp(min=1)).to(targets)
    return mixed, torch.lerp(targets, targets[partner], share.view(-1, *[1] * (targets.ndim - 1)))
