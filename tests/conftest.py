"""A tiny data set that needs no detector and no network: flat colours tell the labels."""

import os

import numpy as np
import pandas as pd
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reached for the network fails at once

from lib import artefacts
from lib.data.audit import CHANNELS
from lib.face import crops, faces
from lib.runner.parameters import declared
from lib.runner.stages import notebook_of
from lib.task.attributes import load

TASK = load("mask")
LONGEST = (
    "test_chain", "test_digits", "test_glasses", "test_shortcut", "test_sweep", "test_recipes",
    "test_kill", "test_batch", "test_bench", "test_train_notebook", "test_turns", "test_package",
)  # fmt: skip
PARAMS = {name: value.default for name, value in declared(notebook_of("train")).items()}
STEMS = {**{f"mask{k}": 0 for k in range(1, 6)}, "incorrect_mask": 1, "normal": 2}
AGES = (22, 45, 60)


def pytest_collection_modifyitems(items: list) -> None:
    """Start the longest files first, so that no process waits for the other at the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def tiny_images(people_per_cell: int = 3, test_photos: int = 20) -> pd.DataFrame:
    """Return an images table: seven photos of each person, and test photos without labels."""
    rows = []
    for number in range(people_per_cell * 6):
        gender, age = number % 2, AGES[number // 2 % 3]
        person = f"{number:06d}_{TASK['gender'].classes[gender]}_Asian_{age}"
        for stem, mask in STEMS.items():
            classes = {"mask": mask, "gender": gender, "age": TASK["age"].group(age)}
            facts = (person, person[:6], mask, gender, age, TASK.encode(classes))
            rows.append((f"{person}/{stem}", "train", *facts))
    rows += [(f"{k:040x}.jpg", "eval", "", "", *[pd.NA] * 4) for k in range(test_photos)]
    columns = ["key", "split", "person", "id", "mask", "gender", "age", "label"]
    frame = pd.DataFrame(rows, columns=columns).set_index("key")
    frame = frame.astype(dict.fromkeys(columns[4:], "Int64"))
    facts = {"race": "Asian", "status": "ok", "width": 64, "height": 64}
    rng = np.random.default_rng(0)
    facts["dhash"] = rng.integers(0, 2**63, len(frame), dtype=np.uint64)
    facts |= dict(zip(CHANNELS, rng.uniform(0.1, 0.9, (6, len(frame))), strict=True))
    return frame.assign(**facts, sha256=frame.index, file=frame.index)


def write_tiny_work(
    work_dir, images: pd.DataFrame, image_size=(32, 32), crop="face", background="keep"
) -> None:
    """Write images.parquet and a crop cache whose colours tell the label (of test photos too)."""
    artefacts.write_table(images, work_dir / "images.parquet")
    faces = tiny_faces(images)
    artefacts.write_table(faces, work_dir / "faces.parquet")
    folder = crops.cache_folder(work_dir, crop, 0.25, background, image_size)
    folder.mkdir(parents=True)
    table = crops._wanted(images, faces, crop, 0.25, image_size)
    artefacts.write_table(table, folder / "crops.parquet")
    size = crops.stored_size(image_size)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 30, (len(images), *size, 3))
    label = images["label"].fillna(pd.Series(np.arange(len(images)) % 18, images.index))
    colours = TASK.decode(label.astype(int).to_numpy())
    colour = np.stack(
        [colours["mask"] * 100, colours["gender"] * 200, colours["age"] * 100], axis=1
    )
    np.save(folder / "pixels.npy", (noise + colour[:, None, None, :]).astype(np.uint8))


def tiny_faces(images: pd.DataFrame) -> pd.DataFrame:
    """Return a faces table that has every face in the middle of a photo of 64 by 64 px."""
    box = dict(zip(crops.BOX, (16.0, 16.0, 48.0, 48.0), strict=True))
    facts = {"score": 0.99, "status": "detected"}
    return pd.DataFrame(
        {**box, **dict.fromkeys(faces.LANDMARKS, np.nan), **facts, "source": images.index},
        index=images.index,
    )


@pytest.fixture
def tiny_work(tmp_path):
    """Return a work folder with the tiny set."""
    write_tiny_work(tmp_path / "work", tiny_images())
    return tmp_path / "work"


@pytest.fixture(scope="session")
def cells():
    """Return ``run_cells``."""
    return run_cells


def run_cells(name: str, **parameters) -> dict:
    """Run a notebook's code cells in this process with other parameters; return its variables."""
    import json

    import matplotlib
    import matplotlib.pyplot as plt
    from IPython.display import display

    matplotlib.use("Agg")
    cells = json.loads((artefacts.PROJECT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    variables = {"display": display}
    with plt.rc_context():  # a notebook sets a style for itself alone
        for cell in (c for c in cells if c["cell_type"] == "code"):
            exec(compile("".join(cell["source"]), f"{name}:{cell['id']}", "exec"), variables)
            if "parameters" in cell["metadata"].get("tags", []):
                if unknown := parameters.keys() - variables.keys():
                    raise KeyError(f"{name} declares no {sorted(unknown)}")
                variables |= parameters
        plt.close("all")
    return variables
