"""Progressive image size: small pictures first, the whole size in the last epoch.

Coarse features are learned from small pictures in a fraction of the time (Howard 2018, fast.ai;
Tan and Le 2021, EfficientNetV2, arXiv 2104.00298). A batch is made smaller after it was augmented
and mixed, so both mean the same at every size. Photos are always scored at the whole size.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

STEP = 16  # sides are multiples of it, px, except those of the whole size


def by_epoch(image_size: Sequence[int], size_from: float, epochs: int) -> list[tuple[int, ...]]:
    """Return height and width in each epoch: shares of ``image_size`` from ``size_from`` to 1."""
    steps = max(1, epochs - 1)
    shares = [1 - (1 - size_from) * (steps - epoch) / steps for epoch in range(epochs - 1)]
    return [tuple(_side(whole, share) for whole in image_size) for share in [*shares, 1.0]]


def _side(whole: int, share: float) -> int:
    return min(whole, max(1, -(-round(whole * share) // STEP)) * STEP)


def shrink(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return images (N, 3, H, W) at a smaller size, without aliasing; at their own as they are."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)
