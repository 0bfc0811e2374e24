"""Every recipe through the cells of notebooks 03 and 04, in this process, two steps each."""

import pytest
from conftest import PARAMS, TASK, run_cells, tiny_images, write_tiny_work

from lib import artefacts
from lib.runner.parameters import declared
from lib.runner.stages import plan, read_layer
from lib.score.submission import check

pytestmark = pytest.mark.no_cover  # other tests reach these lines; tracing costs a quarter

RECIPES = sorted((artefacts.PROJECT / "params/recipes").glob("*.yaml"))
SIZE = [80, 80]
# Models of the same kind that a CPU runs in a moment: the recipe is tried here, not the backbone.
SMALL = {
    "resnet152": "resnet18",
    "efficientnet_b7": "efficientnet_b0",
    "efficientnet_b4": "efficientnet_b0",
    "efficientnet_b3": "efficientnet_b0",
    "vgg16_bn": "vgg11",
    "resnet34": "resnet18",
    "resnext50_32x4d": "resnet18",
    "tf_efficientnetv2_s": "efficientnetv2_rw_t",
    "vit_small_patch16_224": "vit_tiny_patch16_224",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with two sets and their crops of every kind."""
    folder = tmp_path_factory.mktemp("recipes")
    images = tiny_images(people_per_cell=2)
    other = images.assign(**{name: "x" + images[name] for name in ("person", "id", "sha256")})
    kinds = [(crop, "keep") for crop in ("face", "whole", "center")] + [("center", "grabcut")]
    for name, table in {"demo": images, "extra": other}.items():
        for crop, background in kinds:
            write_tiny_work(folder / "work" / name, table, SIZE, crop, background)
    return folder


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_ends_in_a_valid_submission(recipe, place):
    layers = [read_layer(recipe), read_layer(artefacts.PROJECT / "params/tiny.yaml")]
    here = {
        "work_dir": str(place / "work/demo"),
        "runs_dir": str(place / "runs"),
        "submissions_dir": str(place / "submissions"),
    }
    for step in (step for step in plan(layers) if step.stage in ("train", "ensemble")):
        known = declared(step.notebook)
        values = step.values | {name: path for name, path in here.items() if name in known}
        if step.stage == "train":
            backbone = values.get("backbone", PARAMS["backbone"])
            values["backbone"] = [SMALL.get(name, name) for name in backbone]
            values["extra_data"] = [str(place / other) for other in values.get("extra_data", [])]
            values["batch_size"] = 8
        run_cells(step.notebook.stem, **values)
    ids = tiny_images(people_per_cell=2).query("split == 'eval'").index
    check(place / "submissions" / f"{values['submission']}.csv", ids, TASK)
