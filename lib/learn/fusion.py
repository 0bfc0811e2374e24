"""BatchNorm folded into the convolution before it: fewer passes over memory in evaluation.

In evaluation a BatchNorm is a multiple and a shift of each channel, and a convolution can do both.
Which convolution feeds which BatchNorm is seen in one forward pass, so that any architecture will
do. Sums are rounded elsewhere then: outputs differ in their last bits.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.hooks import RemovableHandle

Pair = tuple[nn.Conv2d, str]  # a convolution, and the name of the BatchNorm behind it


def fuse(model: nn.Module, example: Tensor) -> int:
    """Fold every BatchNorm that directly follows a convolution; return how many were folded.

    ``model`` is in evaluation mode and is changed; ``example`` is an input that it accepts.
    """
    pairs = _pairs(model, example)
    for convolution, name in pairs:
        norm = model.get_submodule(name)
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias,
            norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
        )  # fmt: skip
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, _rest(norm))
    return len(pairs)


def _rest(norm: nn.Module) -> nn.Module:
    """Return what a BatchNorm does after it has normalised: timm's have dropout and activation."""
    return nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()


class _Watch:
    """Sees which convolution's output each BatchNorm takes, in the forward passes of a model."""

    def __init__(self, model: nn.Module):
        self.made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # outputs are kept: no id comes twice
        self.taken: list[Pair] = []
        self.hooks = [hook for item in model.named_modules() for hook in self._hooks(*item)]

    def _hooks(self, name: str, module: nn.Module) -> Iterator[RemovableHandle]:
        if isinstance(module, nn.Conv2d):
            yield module.register_forward_hook(self._note_output)
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            yield module.register_forward_pre_hook(partial(self._note_input, name))

    def _note_output(self, module: nn.Conv2d, inputs: tuple, output: Tensor) -> None:
        self.made[id(output)] = module, output

    def _note_input(self, name: str, module: nn.Module, inputs: tuple) -> None:
        if id(inputs[0]) in self.made:
            self.taken.append((self.made[id(inputs[0])][0], name))

    def once(self) -> list[Pair]:
        """Return the pairs of which neither is in another pair."""
        convolutions, names = (Counter(column) for column in zip(*self.taken, strict=True))
        return [(c, name) for c, name in self.taken if convolutions[c] == names[name] == 1]


def _pairs(model: nn.Module, example: Tensor) -> list[Pair]:
    watch = _Watch(model)
    with torch.no_grad():
        model(example)
    for hook in watch.hooks:
        hook.remove()
    return watch.once() if watch.taken else []
