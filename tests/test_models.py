import numpy as np
import pytest
import timm
import torch
from conftest import PARAMS, TASK
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn

from lib.errors import ArtefactError, ParameterError
from lib.learn import models, recipe, weights

SMALL = "test_resnet"
SIZE = [32, 32]


def made(backbone=SMALL, fold=0, start=None, **settings):
    names = [backbone] if isinstance(backbone, str) else backbone
    params = PARAMS | {"backbone": names, "pretrained": False, "image_size": SIZE} | settings
    return recipe.model(params, TASK, fold, start)


def images(rows=4, size=SIZE):
    return torch.rand(rows, 3, *size, generator=torch.Generator().manual_seed(0)) * 255


def changed(model, before):
    return {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def parts(names):
    return {
        "classifiers"
        if not name.startswith("backbone.")
        else "statistics"
        if "running" in name
        else "backbone"
        for name in names
        if "num_batches" not in name
    }


@pytest.mark.parametrize("name", weights.PACKAGED)
def test_packaged_weights_are_the_packages_tensors_in_their_order(name):
    model = made(name, pretrained=True, image_size=[64, 64]).backbone.models[0]
    packaged = list(torch.load(weights.PACKAGED[name](), weights_only=True).values())
    own = list(model.state_dict().values())
    assert len(own) == len(packaged) - 2  # all but the classifier's weight and bias
    assert all(torch.equal(*pair) for pair in zip(own, packaged, strict=False))
    random = timm.create_model(name)
    assert not torch.allclose(model.conv_stem.weight, random.conv_stem.weight, atol=0.01)


def test_packaged_weights_are_refused_by_another_architecture():
    with pytest.raises(ArtefactError, match="do not fit"):
        weights._from_package(timm.create_model(SMALL), weights.PACKAGED["tf_efficientnet_lite0"]())


@pytest.mark.parametrize("wrong", ["resnte18", "resnet18.nonsense"])
def test_an_unknown_backbone_names_the_nearest(wrong):
    with pytest.raises(ParameterError, match=rf"{wrong}.*did you mean 'resnet18"):
        made(wrong)


def test_weights_out_of_reach_are_one_error_that_says_what_to_do():
    with pytest.raises(
        ArtefactError,
        match=r"'resnet18' could not be fetched.*pretrained=false.*weights_path.*lite0",
    ):
        made("resnet18", pretrained=True)


def test_without_a_network_the_hub_is_asked_once(monkeypatch):
    asked = []

    class Client:
        def head(self, url, **settings):
            asked.append(url)
            raise weights.HTTPError("no route to host")

    monkeypatch.setattr(weights, "get_session", Client)
    with pytest.raises(ArtefactError, match="could not be fetched"):
        made("resnet18", pretrained=True)
    assert len(asked) == 1


def test_a_backbone_that_nobody_has_trained_says_so():
    with pytest.raises(ParameterError, match="no pretrained weights of backbone='test_coatnet'"):
        made("test_coatnet", pretrained=True)


def test_weights_from_a_file_fill_the_backbone_and_leave_the_classifier(tmp_path):
    source = timm.create_model(SMALL, num_classes=1000)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = made(pretrained=True, weights_path=str(tmp_path / "weights.pth"))
    assert torch.equal(model.backbone.models[0].conv1[0].weight, source.conv1[0].weight)
    with pytest.raises(ArtefactError, match="lacks"):
        made("test_efficientnet", weights_path=str(tmp_path / "weights.pth"))
    with pytest.raises(ArtefactError, match="is no file"):
        made(weights_path="nowhere.pth")


def test_concatenated_backbones_have_the_features_of_both():
    names = [SMALL, "test_efficientnet"]
    features = [timm.create_model(name).num_features for name in names]
    model = made(names)
    assert model.backbone.feature_count == sum(features)
    both = model.eval().backbone(images())
    assert both.shape == (4, sum(features))
    torch.testing.assert_close(
        both[:, : features[0]], model.backbone.models[0](images() / 127.5 - 1)
    )  # its mean and std are .5


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_each_backbone_normalises_as_timm_says(name):
    backbone = made(name).eval().backbone
    config = timm.data.resolve_data_config({}, model=backbone.models[0])
    mean, std = (torch.tensor(config[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(
        backbone(images()), backbone.models[0]((images() / 255 - mean) / std), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_transformers_take_the_image_size(name):
    size = [64, 96]
    model = made(name, image_size=size).eval()
    assert model.backbone.models[0].patch_embed.img_size == tuple(size)
    assert model.probabilities(images(2, size)).shape == (2, 18)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", SMALL])
def test_the_feature_count_is_what_comes_out(name):
    assert made(name).eval().backbone(images(1)).shape[1] == made(name).backbone.feature_count


@pytest.mark.parametrize(("head", "layers"), [("separate", 6), ("shared", 3), ("joint", 1)])
def test_linear_layers_of_each_head(head, layers):
    model = made(head=head).eval()
    own = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "backbone" not in name
    ]
    assert len(own) == layers
    torch.testing.assert_close(model.probabilities(images()).sum(1), torch.ones(4))


def test_multi_sample_dropout_draws_apart_and_averages_to_the_features():
    dropout = models.MultiSampleDropout(0.5, 400)
    features = torch.arange(1.0, 7).reshape(2, 3)
    drawn = dropout(features).reshape(400, 2, 3)
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(drawn.mean(0), features, rtol=0.25, atol=0)
    assert torch.equal(dropout.eval()(features), features)


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        ("none", [False] * 3),
        ("first", [True, False, False]),
        ("after", [False, True, True]),
        ("always", [True] * 3),
    ],
)
def test_a_frozen_backbone_keeps_its_weights_and_statistics(freeze, frozen):
    model = made(head="shared")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for epoch, rests in enumerate(frozen):
        recipe.freeze({"freeze": freeze, "freeze_epochs": 1, "frozen_layers": 1.0}, model, epoch)
        model.train()
        before = snapshot(model)
        optimizer.zero_grad()
        sum(logits.square().sum() for logits in model(images()).values()).backward()
        optimizer.step()
        assert parts(changed(model, before)) == (
            {"classifiers"} if rests else {"classifiers", "backbone", "statistics"}
        )
        optimizer.zero_grad()


@pytest.mark.parametrize("name", [SMALL, "test_efficientnet", "test_vit", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_part_of_the_layers_freezes_those_nearest_to_the_photo(name, share):
    model = made(name)
    body = model.backbone.models[0]
    groups = param_groups_layer_decay(body, layer_decay=0.5)
    depth = {p: -np.log2(group["lr_scale"]) for group in groups for p in group["params"]}
    recipe.freeze({"freeze": "always", "freeze_epochs": 0, "frozen_layers": share}, model, 0)
    frozen = {depth[p] for p in body.parameters() if not p.requires_grad}
    learning = {depth[p] for p in body.parameters() if p.requires_grad}
    assert min(frozen) > max(learning)
    assert len(frozen) == pytest.approx(share * (1 + max(depth.values())), abs=1)


def test_frozen_layers_keep_their_weights_and_statistics():
    model = made()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    recipe.freeze({"freeze": "always", "freeze_epochs": 0, "frozen_layers": 0.6}, model, 0)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    before = snapshot(model.train())
    sum(logits.square().sum() for logits in model(images()).values()).backward()
    optimizer.step()
    now = changed(model, before)
    layers = {name.rpartition(".")[0] for name in frozen}
    assert not {name for name in now if name.rpartition(".")[0] in layers}
    statistics = {name for name in before if name.endswith("running_mean")}
    assert 0 < len(now & statistics) < len(statistics)
    assert now >= {name for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1}


@pytest.mark.parametrize(
    ("head", "way"), [("separate", "ordinal"), ("joint", "groups"), ("shared", "values")]
)
def test_training_starts_from_another_run_whatever_its_head(tmp_path, head, way):
    source = made(fold=1)
    torch.save(source.state_dict(), tmp_path / "best.pt")
    before = snapshot(made(head=head, ordered_head=way))
    model = made(head=head, ordered_head=way, start=tmp_path)
    pairs = zip(model.backbone.parameters(), source.backbone.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    # A head of another size, or without a layer between, keeps its new weights.
    fitting = {"mask", "gender"} if head == "separate" else set()
    names = [name for name in changed(model, before) if name.startswith("classifiers.")]
    assert {name.split(".")[1] for name in names if "weight" in name} == fitting


def test_another_backbone_cannot_be_started_from(tmp_path):
    torch.save(made().state_dict(), tmp_path / "best.pt")
    with pytest.raises(ArtefactError, match="of another backbone"):
        made("test_efficientnet", start=tmp_path)


def without_code(path):
    """Return a file that only running its code would read: a whole pickled module."""
    torch.save(made(), path)


FILES = {
    "lfs.pth": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "empty.pth": lambda path: path.write_bytes(b""),
    "text.pth": lambda path: path.write_text("hello"),
    "list.pth": lambda path: torch.save([1, 2], path),
    "whole_module.pt": without_code,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_state_dict_is_told_by_name_in_one_sentence(tmp_path, name):
    FILES[name](tmp_path / name)
    with pytest.raises(ArtefactError, match=name) as caught:
        made(weights_path=str(tmp_path / name))
    assert "state dict" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_cut_short_is_told_by_name(tmp_path):
    torch.save(timm.create_model(SMALL).state_dict(), tmp_path / "whole.pth")
    cut = (tmp_path / "whole.pth").read_bytes()[:50_000]
    (tmp_path / "cut.pth").write_bytes(cut)
    with pytest.raises(ArtefactError, match=r"cut\.pth.*cut short"):
        made(weights_path=str(tmp_path / "cut.pth"))


@pytest.mark.parametrize(("size", "said"), [(500, "cannot be read"), (None, "is missing")])
def test_a_damaged_best_epoch_is_told_with_what_to_do(tmp_path, size, said):
    torch.save(made().state_dict(), tmp_path / "whole.pt")
    if size:
        (tmp_path / "best.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:size])
    for use in (lambda: models.load(made(), tmp_path), lambda: models.start_from(made(), tmp_path)):
        with pytest.raises(ArtefactError, match=rf"best\.pt {said}: delete .* trains this fold"):
            use()


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_weights_inside_a_checkpoint_or_with_a_prefix_are_found(tmp_path, key, prefix):
    source = timm.create_model(SMALL)
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "weights.pth")
    model = made(weights_path=str(tmp_path / "weights.pth"))
    assert torch.equal(model.backbone.models[0].conv1[0].weight, source.conv1[0].weight)


@pytest.mark.parametrize(
    ("old", "new"),
    [("tv_resnet34", "resnet34.tv_in1k"), ("gluon_resnet18_v1b", "resnet18.gluon_in1k")],
)
def test_a_retired_name_of_timm_means_its_successor(old, new):
    model = made(old, image_size=[64, 64]).backbone.models[0]
    assert model.pretrained_cfg["architecture"] + "." + model.pretrained_cfg["tag"] == new
