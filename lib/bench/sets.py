"""A large set made of links to the photos of a small one, and what each stage costs on it."""

import shutil
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from lib import artefacts
from lib.artefacts import resolve
from lib.bench import training
from lib.bench.processes import MEMORY, alone
from lib.data.index import load_images
from lib.errors import DataError
from lib.face import faces
from lib.face.crops import geometry, open_crops
from lib.learn import recipe
from lib.learn.precision import PRECISIONS
from lib.score import predict
from lib.task.attributes import Task, load

TRAIN_SHARE = 0.6  # of the photos, as in the competition
LAYOUT = {"train_table": "train.csv", "test_table": "test.csv", "image_dir": "images"}
LAYOUT |= {"path_column": "path", "group_column": "person"}
PRECISION = "fp32_channels_last"  # one whose memory does not depend on a probe

STATEMENTS = {  # by stage: its imports, and the call that does its work
    "index and audit": (
        "from lib.data import index; from lib.task.attributes import load",
        "index.build_images({data!r}, {work!r}, load({task!r}), 'table', {layout})",
    ),
    "faces": (
        "from lib.data.index import load_images; from lib.face import faces",
        "faces.build_faces(load_images({work!r}), {data!r}, {work!r})",
    ),
    "crops": (
        "from lib.data.index import load_images; from lib.face import crops, faces",
        "crops.build_crops(load_images({work!r}), faces.load_faces({work!r}), {data!r}, {work!r}, "
        "**{geometry})",
    ),
    "train": ("from lib.bench import sets", "sets.train_briefly({work!r}, {task!r})"),
}


def link_set(
    images: pd.DataFrame, task: Task, data_dir: str | Path, folder: Path, photos: int
) -> Path:
    """Link the photos of ``data_dir`` again and again into a set of the layout "table".

    ``images`` is their index. People are repeated under new names. Returns ``folder``.
    """
    readable = images[images["status"] == "ok"]
    train, test = (readable[readable["split"] == split] for split in ("train", "eval"))
    if train.empty or test.empty:
        raise DataError(f"{data_dir}: nothing to repeat: it needs a training and a test photo")
    trained, linked = round(TRAIN_SHARE * photos), count()
    (folder / LAYOUT["image_dir"]).mkdir(parents=True)
    for name, table, rows in (("train", train, trained), ("test", test, photos - trained)):
        places = np.arange(rows)
        repeated = table.iloc[places % len(table)]
        files = [resolve(data_dir) / file for file in repeated["file"]]
        listed = {LAYOUT["path_column"]: [_link(folder, next(linked), file) for file in files]}
        if name == "train":
            copies = (places // len(table)).astype(str)
            listed[LAYOUT["group_column"]] = copies + "_" + repeated["person"].to_numpy(str)
            listed |= {n: repeated[n].map(task[n].text).tolist() for n in task.names}
        artefacts.write_table(pd.DataFrame(listed), folder / LAYOUT[f"{name}_table"])
    return folder


def _link(folder: Path, number: int, file: Path) -> str:
    name = f"{number:06d}{file.suffix}"
    place = folder / LAYOUT["image_dir"] / name
    try:
        place.hardlink_to(file.resolve())  # symbolic links out of a set are not followed
    except OSError:  # another disk
        shutil.copyfile(file, place)
    return name


def stage_alone(stage: str, task: Task, data_dir: Path, work_dir: Path) -> dict[str, float]:
    """Run a stage of STATEMENTS in a new process; return its seconds and peak memory."""
    values = {"data": str(data_dir), "work": str(work_dir), "task": task.name, "layout": LAYOUT}
    values["geometry"] = geometry(training.parameters())
    return alone(*(part.format(**values) for part in STATEMENTS[stage]))


def stage_costs(
    task: Task, data_dir: str | Path, work_dir: str | Path, folder: Path, photos: int, detected: int
) -> pd.DataFrame:
    """Return stage, photos, seconds and memory of every stage on a new set linked below ``folder``.

    Faces are detected in ``detected`` photos; the others are known from ``work_dir``, as when a
    stopped run continues.
    """
    images = load_images(work_dir)
    linked = link_set(images, task, data_dir, folder / f"set{photos}", photos)
    work = folder / f"work{photos}"
    first, *others = STATEMENTS
    rows = [{"stage": first, "photos": photos, **stage_alone(first, task, linked, work)}]
    know_faces(work, work_dir, max(0, photos - detected))
    rows += [{"stage": n, "photos": photos, **stage_alone(n, task, linked, work)} for n in others]
    return pd.DataFrame(rows)


def know_faces(work: Path, work_dir: str | Path, photos: int) -> None:
    """Write the first faces of ``work``: those that ``work_dir`` knows of equal photos."""
    known = artefacts.read_table(work_dir, faces.DETECTIONS, "crop", "02_face_crop")
    known = known.drop_duplicates("source").set_index("source")
    sources = faces.fingerprints(load_images(work))[:photos]
    sources = sources[sources.isin(known.index)]
    table = known.loc[sources].set_axis(sources.index).assign(source=sources)
    artefacts.write_table(table, work / faces.DETECTIONS)


def train_briefly(work_dir: str, task_name: str) -> None:
    """Take three steps of the recipe, load every photo of an epoch, and predict two batches."""
    task = load(task_name)
    params = training.parameters(precision=PRECISION, max_batches=3)
    crops = open_crops(work_dir, **geometry(params))
    path = resolve(work_dir) / "precision.csv"
    learner, data, _ = training.prepare(params, task, load_images(work_dir), crops, path)
    training.our_epoch(learner, data)()
    data.max_batches = 0
    training.load_epoch(data)()
    some, columns = crops.keys[: 2 * predict.BATCH_SIZE], recipe.columns(params, task)
    predict.predict(learner.evaluated(), crops, some, columns, PRECISIONS[PRECISION])


def peaks(costs: pd.DataFrame) -> pd.DataFrame:
    """Return each stage's memory at the larger of two sizes, and ``growth`` per 1,000 photos."""
    few, many = (rows.set_index("stage") for _, rows in costs.groupby("photos", sort=True))
    growth = 1000 * (many["own"] - few["own"]) / (many["photos"] - few["photos"])
    return many[MEMORY].assign(growth=growth)
