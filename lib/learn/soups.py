"""Model soups: one model whose weights are the mean of several models' weights.

Wortsman et al. 2022, Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time, arXiv 2203.05482. It works where the models started from the same
weights and have not gone far from them. BatchNorm's statistics are averaged like weights.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def uniform(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of state dicts; whole numbers, such as counts, are those of the first."""
    return {name: _mean([state[name] for state in states]) for name in states[0]}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    return torch.stack([tensor.double() for tensor in tensors]).mean(dim=0).to(first.dtype)


def greedy(candidates: Mapping[str, State], score: Callable[[State], float]) -> list[str]:
    """Return the names whose uniform soup is the greedy soup, larger scores are better.

    From the best candidate on, each next one stays in the soup unless the score falls. ``score``
    must be of photos that no candidate was trained on.
    """
    alone = {name: score(state) for name, state in candidates.items()}
    first, *others = sorted(alone, key=lambda name: -alone[name])
    kept, best = [first], alone[first]
    for name in others:
        tried = score(uniform([candidates[one] for one in (*kept, name)]))
        if tried >= best:
            kept, best = [*kept, name], tried
    return kept
