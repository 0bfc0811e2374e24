"""Soft targets of every loss: probability over what can be recorded of a photo.

A batch carries one tensor. For a task whose table of labels is kept it is joint, (N, *sizes), such
as (N, 3, 2, 43); a larger task has its attributes side by side, (N, sum of sizes). Mixing photos
mixes this tensor, and what a head learns (label, attribute, groups by a cut) is a sum over it.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from lib.task.attributes import Attribute, Task

Cuts = Mapping[str, Sequence[int]]


def sizes(task: Task) -> tuple[int, ...]:
    """Return how many numbers can be recorded of each attribute."""
    return tuple(attribute.size for attribute in task.attributes.values())


def one_hot(task: Task, table: Mapping) -> Tensor:
    """Return targets (N, ...) of recorded numbers, clipped to the task's range."""
    places = [
        np.clip(np.asarray(table[name], dtype=int) - attribute.first, 0, attribute.size - 1)
        for name, attribute in task.attributes.items()
    ]
    if not task.joint:
        rows = [torch.eye(size)[place] for size, place in zip(sizes(task), places, strict=True)]
        return torch.cat(rows, dim=1)
    flat = np.atleast_1d(np.ravel_multi_index(places, sizes(task)))
    return torch.eye(prod(sizes(task)))[torch.from_numpy(flat)].reshape(-1, *sizes(task))


def marginal(task: Task, targets: Tensor, name: str) -> Tensor:
    """Return one attribute's share of targets: (N, size)."""
    place = task.names.index(name)
    if not task.joint:
        return targets.split(sizes(task), dim=1)[place]
    others = [axis + 1 for axis in range(len(task.names)) if axis != place]
    return targets.sum(others) if others else targets


def groups_matrix(attribute: Attribute, cuts: Sequence[int] = ()) -> Tensor:
    """Return the 0/1 matrix (size, classes) that sums recorded numbers to classes."""
    group = attribute.group(np.arange(attribute.size) + attribute.first, cuts)
    return torch.eye(len(attribute.classes))[torch.from_numpy(np.asarray(group))]


def grouped(task: Task, targets: Tensor, name: str, cuts: Cuts) -> Tensor:
    """Return the classes of an attribute, or of the label, in targets: (N, classes)."""
    if name in task.attributes:
        matrix = groups_matrix(task[name], cuts.get(name, ())).to(targets)
        return marginal(task, targets, name) @ matrix
    for axis, attribute in enumerate(task.attributes.values(), start=1):
        if attribute.ordered:
            matrix = groups_matrix(attribute, cuts.get(attribute.name, ())).to(targets)
            targets = (targets.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return targets.flatten(1)


def likeliest(task: Task, targets: Tensor, cuts: Cuts) -> dict[str, np.ndarray]:
    """Return the most likely class (N,) of every attribute, read off the label where it is kept."""
    if task.joint:
        return task.decode(grouped(task, targets, "label", cuts).argmax(1).numpy())
    return {name: grouped(task, targets, name, cuts).argmax(1).numpy() for name in task.names}


def spread(task: Task, classes: Mapping[str, Tensor], known: Tensor, cuts: Cuts) -> Tensor:
    """Return targets (N, …) of class probabilities by part, such as ``{"label": (N, C)}``.

    Inside a class the recorded numbers are spread as in the targets ``known``; a class that nobody
    in ``known`` has is spread evenly, so no probability is lost.
    """
    within = {name: _within(task, name, known, cuts) for name in task.names}
    if not task.joint:
        return torch.cat([classes[name] @ within[name] for name in task.names], dim=1)
    targets = classes["label"].unflatten(1, task.shape)
    for axis, matrix in enumerate(within.values(), start=1):
        targets = (targets.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return targets


def _within(task: Task, name: str, known: Tensor, cuts: Cuts) -> Tensor:
    """Return the matrix (classes, size) that spreads each class over recorded numbers."""
    counts = marginal(task, known, name).sum(0)
    matrix = groups_matrix(task[name], cuts.get(name, ())).T
    shares = matrix * counts.clamp_min(torch.finfo(counts.dtype).tiny)
    return shares / shares.sum(1, keepdim=True)
