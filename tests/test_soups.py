import numpy as np
import torch

from lib.learn import soups


def _state(value, count):
    weights = torch.full((2, 3), value, dtype=torch.float32)
    return {"weights": weights, "batches": torch.tensor(count)}


def test_a_uniform_soup_is_the_mean_and_keeps_types():
    states = [_state(value, count) for value, count in [(1.0, 7), (2.0, 8), (6.0, 9)]]
    mixed = soups.uniform(states)
    np.testing.assert_allclose(mixed["weights"].numpy(), 3.0)
    assert mixed["weights"].dtype == torch.float32
    assert mixed["batches"] == 7


def test_a_greedy_soup_takes_in_whatever_does_not_lower_the_score():
    candidates = {"a": _state(4.0, 0), "b": _state(9.0, 0), "c": _state(7.0, 0)}

    def score(state):
        return -abs(float(state["weights"][0, 0]) - 5)

    # a scores -1, c -2, b -4; a and c mix to 5.5 (better), with b to 6.7 (worse).
    assert soups.greedy(candidates, score) == ["a", "c"]
