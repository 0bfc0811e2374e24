"""What tells photos of one person in a package: the looks of training photos, and the network.

Photos of one person are found by rules that known people teach (``lib.score.same_person``). Those
are learned again from the training photos' looks, in which numbers stand for photos and people.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from safetensors.torch import load_file
from torch import nn

from lib.package import checkpoints
from lib.score import appearance, same_person
from lib.score.groups import Weights
from lib.score.runs import Run

FILE = "looks.parquet"  # in a package


def known(run: Run) -> pd.DataFrame:
    """Return the looks of a run's training photos, and the person on each."""
    looks, people = same_person.looks_of(run.params)
    people = people[people.index.isin(looks.index)]
    return looks.loc[people.index].assign(person=people)


def save_network(folder: Path) -> str:
    """Write the network's weights, and return their path."""
    return checkpoints.save(appearance.make_network(pretrained=True).state_dict(), folder)


class Looks(NamedTuple):
    """The network of a package, and the looks of its training photos with their person."""

    network: nn.Module
    known: pd.DataFrame

    def of(self, files: pd.Series, faces: pd.DataFrame) -> pd.DataFrame:
        """Return the looks of photos that can be read, in the order of ``files``."""
        if files.empty:
            return self.known.drop(columns="person").iloc[:0].set_axis(files.index)
        faces = faces.loc[files.index]
        values = appearance.described(files.tolist(), faces, self.network)
        return appearance.table(values, files.index).astype("float32")

    def weights(self, looks: pd.DataFrame) -> Weights:
        """Return how much photos with these looks, and the training photos, count for another."""
        people = self.known["person"]
        return same_person.grouped(pd.concat([self.known[list(looks)], looks]), people).weights


def load(folder: Path, network: str) -> Looks:
    """Return what a package has; ``network`` is the path of the weights."""
    made = appearance.make_network(pretrained=False)
    made.load_state_dict(load_file(folder / network))
    return Looks(made, pd.read_parquet(folder / FILE))
