"""The alarm for shortcuts, end to end: synthetic people whose clothes and walls tell the class.

Two runs are trained: about 90 seconds of one core in all.
"""

import numpy as np
import pytest
from conftest import TASK, run_cells

from lib.artefacts import write_table
from lib.data.index import build_images
from lib.demo import people
from lib.face.faces import LANDMARKS, TYPICAL

pytestmark = pytest.mark.no_cover  # other tests reach these lines; tracing costs a quarter

# Whole photos, small and few, learned by heart: enough for a model to find the shortcut.
RECIPE = {
    "experiment": "whole",
    "crop": "whole",
    "image_size": [96, 96],
    "learn": ["gender", "age"],
    "split": "holdout",
    "augment": ["none"],
    "relabel": [],
    "epochs": 5,
    "warmup_epochs": 0,
    "batch_size": 16,
    "learning_rate": 0.003,
    "dropout": 0.0,
    "ema_decay": 0.9,
}
SHOWN = {"runs": ["whole"], "gallery": 1, "cam_examples": 1, "cam_photos": 64, "bins": 2}


def set_of_people(root, shortcut):
    """Write people, their images table, and faces at the place where they typically are."""
    people.make(root / "data", people=48, eval_people=6, shortcut=shortcut, workers=1)
    images, _ = build_images(root / "data", root / "work", TASK, "competition", {})
    sides = dict(zip(("x0", "y0", "x1", "y1"), TYPICAL, strict=True))
    box = {
        side: share * images["width" if "x" in side else "height"] for side, share in sides.items()
    }
    faces = images[[]].assign(**box, **dict.fromkeys(LANDMARKS, np.nan), score=1.0)
    write_table(
        faces.assign(status="detected", source=images["sha256"]), root / "work/faces.parquet"
    )


@pytest.fixture(scope="module", params=[True, False], ids=["shortcut", "plain"])
def trained(request, tmp_path_factory):
    """Return whether the set has a shortcut, and the folder of a run trained on it."""
    root = tmp_path_factory.mktemp("people")
    set_of_people(root, request.param)
    folders = {"data_dir": "data", "work_dir": "work", "runs_dir": "runs"}
    run_cells("03_train", **RECIPE, **{key: str(root / name) for key, name in folders.items()})
    return request.param, root / "runs"


def test_the_notebook_raises_the_alarm_for_a_shortcut_and_only_then(trained, capsys):
    shortcut, folder = trained
    found = run_cells("05_error_analysis", **SHOWN, runs_dir=str(folder))
    said = capsys.readouterr().out
    density = found["in_face"]["density"]
    assert ("ALARM" in said) == shortcut
    assert ("No alarm" in said) != shortcut
    assert (density.min() < 1.6) == shortcut
