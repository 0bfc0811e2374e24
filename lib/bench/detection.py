"""Face boxes compared with those of MTCNN, called photo by photo as most code does."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artefacts import resolve
from lib.face import faces, mtcnn
from lib.task.attributes import Task

Boxes = Mapping[str, pd.DataFrame]  # a row per photo, by "ours" and "peer"


def jpegs(images: pd.DataFrame, task: Task, count: int) -> pd.DataFrame:
    """Return up to ``count`` readable training JPEGs in random order, their kinds evenly."""
    readable = images[(images["split"] == "train") & (images["status"] == "ok")]
    photos = readable[readable["file"].str.lower().str.endswith((".jpg", ".jpeg"))]
    return photos.loc[faces.sample(faces.kinds(photos, task), count)]


def face_boxes(
    photos: pd.DataFrame, data_dir: str | Path, work_dir: Path, turns: int
) -> tuple[pd.DataFrame, Boxes]:
    """Return the seconds per photo by turn, "ours" and "peer", and the boxes that each found.

    Every turn has photos of its own; the networks are loaded before.
    """
    files = resolve(data_dir) / photos["file"]
    faces.detect_files(files[:1])
    seconds, ours, peer = [], [], []
    for turn, keys in enumerate(np.array_split(photos.index, turns)):
        start = time.perf_counter()
        ours.append(faces.build_faces(photos.loc[keys], data_dir, work_dir / f"turn{turn}"))
        middle = time.perf_counter()
        peer.append(mtcnn.detect_one_by_one(files[keys]).set_index(keys))
        end = time.perf_counter()
        seconds.append({"ours": (middle - start) / len(keys), "peer": (end - middle) / len(keys)})
    return pd.DataFrame(seconds), {"ours": pd.concat(ours), "peer": pd.concat(peer)}


def detection_rates(boxes: Boxes, kinds: pd.Series) -> pd.DataFrame:
    """Return the share of photos with any and with a sure face, by kind (rows) and detector."""
    found = {
        "ours, any": boxes["ours"]["status"].isin(["detected", "low"]),
        "MTCNN, any": boxes["peer"]["x0"].notna(),
        "ours, sure": boxes["ours"]["score"] >= faces.SURE,
        "MTCNN, sure": boxes["peer"]["score"] >= faces.SURE,
    }
    return pd.DataFrame(found).groupby(kinds).mean()


def points_behind(rates: pd.DataFrame) -> float:
    """Return how many percentage points ours is below MTCNN, in the kind where it is worst."""
    kinds = ("any", "sure")
    return 100 * max((rates[f"MTCNN, {kind}"] - rates[f"ours, {kind}"]).max() for kind in kinds)


def mean_iou(boxes: Boxes) -> float:
    """Return the mean IoU of the boxes of photos in which both found a face."""
    both = boxes["peer"]["x0"].notna() & boxes["ours"]["status"].isin(["detected", "low"])
    ours, peer = (boxes[who].loc[both, faces.BOX] for who in ("ours", "peer"))
    return float(faces.iou(ours, peer).mean())
