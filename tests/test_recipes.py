"""Every recipe through the cells of notebooks 03 and 04, in this process, two steps each."""

import pytest
from conftest import run_cells, tiny_images, write_tiny_work

from lib import artefacts
from lib.runner.parameters import declared
from lib.runner.stages import plan, read_layer
from lib.score.submission import check

RECIPES = sorted((artefacts.PROJECT / "params/recipes").glob("*.yaml"))
SIZE = [80, 80]
# Models of a recipe's own kind that a CPU makes and runs in a moment: what is tried here is the recipe, not the backbone.
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
    """Return a folder with two sets and their crops, whole, centre, face and GrabCut alike."""
    folder = tmp_path_factory.mktemp("recipes")
    images = tiny_images(people_per_cell=2)
    other = images.assign(person="x" + images["person"], id="x" + images["id"], sha256="x" + images["sha256"])
    for name, table in {"demo": images, "extra": other}.items():
        for crop, background in (("face", "keep"), ("whole", "keep"), ("center", "keep"), ("center", "grabcut")):
            write_tiny_work(folder / "work" / name, table, SIZE, crop, background)
    keys = images.index[images["split"] == "eval"]
    (folder / "data/eval").mkdir(parents=True)
    (folder / "data/eval/info.csv").write_text("ImageID,ans\n" + "".join(f"{key},0\n" for key in keys))
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
        values = {**step.values, **{name: path for name, path in here.items() if name in declared(step.notebook)}}
        if step.stage == "train":
            values["backbone"] = [SMALL.get(name, name) for name in values.get("backbone", ["tf_efficientnet_lite0"])]
            values["extra_data"] = [str(place / set_dir) for set_dir in values.get("extra_data", [])]
            values["batch_size"] = 8
        else:
            values["data_dir"] = str(place / "data")
        run_cells(step.notebook.stem, **values)
    check(place / "submissions" / f"{values['submission']}.csv", place / "data/eval/info.csv")
