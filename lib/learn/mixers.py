"""Batch mixers: ``mixer(images (N, 3, H, W), targets (N, …), boxes (N, 4)) -> (images, targets)``, on the batch's device.

Targets are soft, one joint distribution a photo, and are mixed by the same shares as the pixels: their mass stays 1.
Boxes are the faces, (x0, y0, x1, y1) in pixels of the images. Nothing is changed in place.

Randomness: mixup and CutMix are timm's and draw from numpy's global generator, one draw a batch; the face mixers draw
from torch's global CPU generator, one draw a photo. Seed both at the start of an epoch and a resumed epoch repeats itself.
"""

from collections.abc import Callable
from functools import partial

import torch
from timm.data import Mixup
from torch import Tensor

from lib.errors import ParameterError, pick

CUT = (0.46, 0.54)  # where half-face CutMix parts a face, as a fraction of its box's width (1st place 2022)

Mixer = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def make_mixer(name: str, alpha: float, probability: float) -> Mixer:
    """Return the mixer ``name`` of MIXERS.

    ``alpha`` > 0 shapes the Beta(alpha, alpha) that draws the mixed share (half_face has none: it cuts near the middle);
    ``probability`` 0..1 is the chance of mixing, a batch for mixup and CutMix, a photo for face_cutmix and half_face.
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


class SoftMixup(Mixup):
    """timm's mixup (https://arxiv.org/abs/1710.09412) and CutMix (https://arxiv.org/abs/1905.04899) for soft targets.

    The photo at place i is mixed with the one at N - 1 - i; in an odd batch the middle one stays as it is.
    """

    # timm's own call asks for an even batch and for targets (N, classes); its drawing and mixing of pixels serve as they are.
    def __call__(self, images: Tensor, targets: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed images and targets; boxes are not needed."""
        images = images.clone()  # timm mixes in place
        kept = self._mix_batch(images)
        return images, torch.lerp(targets.flip(0), targets, kept)


def face_cutmix(images: Tensor, targets: Tensor, boxes: Tensor, alpha: float, probability: float) -> tuple[Tensor, Tensor]:
    """CutMix that swaps no background: the rectangle lies inside the receiving photo's face box.

    The rectangle has the box's proportions and a Beta-drawn share of its area. What fills it is as large, and lies at the
    same relative place in the partner's face box. Target shares are those of the face box's area.
    """
    faces = _pixels(boxes, images)
    partner = _partners(faces, probability)
    share = torch.distributions.Beta(alpha, alpha).sample((len(faces), 1))
    place = torch.rand(len(faces), 2)
    start, size = faces[:, :2], faces[:, 2:] - faces[:, :2]
    cut = (size * share.sqrt()).round().long()
    corner = start + (place * (size - cut)).round().long()
    origin = start[partner] + (place * (size[partner] - cut)).round().long()
    return _paste(images, targets, faces, partner, torch.cat([corner, corner + cut], dim=1), origin - corner)


def half_face(images: Tensor, targets: Tensor, boxes: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Vertical-half CutMix (1st place 2022): the left half of one photo with the right half of another, any two classes.

    Both are cut at the same fraction of their face boxes' widths, drawn from CUT; the partner is shifted by whole pixels
    so that the cuts meet and the boxes' centres are level: each half is pixel for pixel its source. Where the shifted
    partner has no pixels the photo keeps its own. Target shares are those of the face box's area.
    """
    faces = _pixels(boxes, images)
    partner = _partners(faces, probability)
    x0, y0, x1, y1 = faces.unbind(dim=1)
    fraction, middle = torch.empty(len(faces)).uniform_(*CUT), (y0 + y1) // 2
    cut = (x0 + fraction * (x1 - x0)).round().long()
    cut_partner = (x0[partner] + fraction * (x1 - x0)[partner]).round().long()
    height, width = images.shape[2:]
    region = torch.stack([cut, torch.zeros_like(cut), torch.full_like(cut, width), torch.full_like(cut, height)], dim=1)
    shift = torch.stack([cut_partner - cut, middle[partner] - middle], dim=1)
    return _paste(images, targets, faces, partner, region, shift)


MIXERS: dict[str, Callable[[float, float], Mixer]] = {
    "none": lambda alpha, probability: unmixed,
    "mixup": lambda alpha, probability: SoftMixup(mixup_alpha=alpha, cutmix_alpha=0.0, prob=probability),
    "cutmix": lambda alpha, probability: SoftMixup(mixup_alpha=0.0, cutmix_alpha=alpha, prob=probability),
    "mixup_cutmix": lambda alpha, probability: SoftMixup(
        mixup_alpha=alpha, cutmix_alpha=alpha, prob=probability, switch_prob=0.5
    ),
    "face_cutmix": lambda alpha, probability: partial(face_cutmix, alpha=alpha, probability=probability),
    "half_face": lambda alpha, probability: partial(half_face, probability=probability),
}


def _pixels(boxes: Tensor, images: Tensor) -> Tensor:
    """Return boxes in whole pixels, clipped to the images: int64 (N, 4), on the CPU, where the drawing is done."""
    height, width = images.shape[2:]
    return boxes.cpu().round().long().clamp(min=0).minimum(torch.tensor([width, height, width, height]))


def _partners(faces: Tensor, probability: float) -> Tensor:
    """Return a photo for each photo: a random one, or itself where none is drawn or a face has left its picture."""
    partner = torch.randperm(len(faces))
    has_face = (faces[:, 2:] > faces[:, :2]).all(dim=1)
    drawn = (torch.rand(len(faces)) < probability) & has_face & has_face[partner]
    return partner.where(drawn, torch.arange(len(faces)))


def _paste(
    images: Tensor, targets: Tensor, faces: Tensor, partner: Tensor, region: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill ``region`` (N, 4: box in pixels) with the partner's pixels found ``shift`` (N, 2: right, down) away from there.

    Only where both photos have pixels. The partner's share of the target is the share of the face box that was filled.
    """
    size = torch.tensor([images.shape[3], images.shape[2]])  # width, height, as the boxes go
    start = region[:, :2].maximum(-shift).clamp(min=0)
    end = region[:, 2:].minimum(size - shift).minimum(size).maximum(start)
    mixed = images.clone()
    for i, (j, x0, y0, x1, y1, right, down) in enumerate(torch.cat([partner[:, None], start, end, shift], dim=1).tolist()):
        mixed[i, :, y0:y1, x0:x1] = images[j, :, y0 + down : y1 + down, x0 + right : x1 + right]
    overlap = (end.minimum(faces[:, 2:]) - start.maximum(faces[:, :2])).clamp(min=0).prod(dim=1)
    share = (overlap / (faces[:, 2:] - faces[:, :2]).prod(dim=1).clamp(min=1)).to(targets)
    return mixed, torch.lerp(targets, targets[partner], share.view(-1, *[1] * (targets.ndim - 1)))
