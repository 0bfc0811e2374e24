"""Real handwritten digits as a table: those that scikit-learn carries (task ``digits``).

1,797 pictures of 8 x 8 px by 43 writers (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998), enlarged and written as PNG. Who wrote a digit is not recorded, so every photo is
its own group.
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from lib import artefacts
from lib.demo.folder import is_finished, whole_folder, write_photo

SIDE = 32  # px: the written pictures are four times as large as the originals


def make(data_dir: str | Path, photos: int = 1797, test_share: float = 0.2, seed: int = 0) -> Path:
    """Write the digits to ``data_dir`` unless they are there, and return its path.

    ``train.csv`` has path and digit, ``test.csv`` only the path, ``private/answers.csv`` both.
    """
    folder = artefacts.resolve(data_dir)
    parameters = {"digits": photos, "test_share": test_share, "seed": seed}
    if is_finished(folder, parameters, make):
        return folder
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))[:photos]
    names = [f"{place:04d}.png" for place in range(len(order))]
    table = pd.DataFrame({"path": names, "digit": digits.target[order]})
    tests = round(test_share * len(table))
    with whole_folder(folder, parameters) as root:
        (root / "images").mkdir()
        for name, picture in zip(names, digits.images[order], strict=True):
            write_photo(root / "images" / name, enlarged(picture))
        artefacts.write_table(table[tests:], root / "train.csv")
        artefacts.write_table(table[:tests][["path"]], root / "test.csv")
        artefacts.write_table(table[:tests], root / "private/answers.csv")
    return folder


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Return a picture (8, 8) of 0..16 as RGB uint8 (SIDE, SIDE, 3)."""
    grey = np.clip(picture * 255 / 16, 0, 255).astype(np.uint8)
    large = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(large, cv2.COLOR_GRAY2RGB)
