"""Photos without labels as a set of their own, to be predicted and learned from (pseudo-labels).

``python -m lib.unlabelled FOLDER --like RUN --out work/more`` indexes, audits and crops them as the
photos of a run were; notebook 04 labels them with ``other_photos``, notebook 03 trains on them with
``pseudo_data``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib import artefacts
from lib.data import trees
from lib.data.audit import audit
from lib.data.index import FACTS, FILES
from lib.errors import FacefoldError
from lib.face.crops import Crops, build_crops, geometry, possible
from lib.face.faces import build_faces, load_faces
from lib.score import runs
from lib.score.runs import Run
from lib.task.attributes import LABEL, Task


def prepare(folder: Path, run: Run, work_dir: str | Path) -> tuple[pd.DataFrame, Crops]:
    """Write tables and crops of a folder's photos to a work folder; return images and crops.

    Detector and geometry are those of the run. Of photos that are there already nothing is made
    again. DataError for a folder without photos, or with links.
    """
    folder = folder.resolve()
    listed = _listed(folder, run.task)
    images = audit(listed, folder, artefacts.resolve(work_dir) / "audit.parquet")
    artefacts.write_table(images, artefacts.resolve(work_dir) / "images.parquet")
    detector = "mtcnn" if "face" in possible(load_faces(run.params["work_dir"])) else "none"
    faces = build_faces(images, folder, work_dir, detector)
    return images, build_crops(images, faces, folder, work_dir, **geometry(run.params))


def _listed(folder: Path, task: Task) -> pd.DataFrame:
    """Return a row per photo as ``index.index`` does: all are test photos, nothing is recorded."""
    files = trees.listed(folder)
    photos = files[files.photo].assign(split="eval", person="", id="", status="ok")
    recorded = [*task.names, LABEL]
    photos = photos.assign(key=photos.file.str.removeprefix("./"), **dict.fromkeys(recorded, pd.NA))
    photos = photos.astype(dict.fromkeys([*recorded, "bytes", "modified"], "Int64"))
    return photos.set_index("key")[[*FACTS, *recorded, *FILES]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 for what cannot be prepared."""
    purpose = "Prepare a folder of photos without labels for pseudo-labels (docs/bring.md)."
    parser = argparse.ArgumentParser("python -m lib.unlabelled", description=purpose)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="photos, in folders or not")
    add("--like", type=Path, required=True, metavar="RUN", help="a finished run, such as runs/demo")
    add("--out", required=True, metavar="WORK_DIR", help="folder of tables and crops: work/more")
    given = parser.parse_args(arguments)
    try:
        run = runs.load(str(given.like.parent), given.like.name)
        images, crops = prepare(given.folder, run, given.out)
    except FacefoldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.out}: {len(images)} photos, {len(images) - len(crops.keys)} cannot be read")
    return 0
