import pytest
import timm
import torch
from torch import nn

from lib.learn import fusion


def _norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def _with_statistics(model):
    """Give every BatchNorm statistics and weights that are not those of an untrained one."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_outputs_stay_and_every_batch_norm_behind_a_convolution_is_gone(name):
    model = _with_statistics(timm.create_model(name, num_classes=5))
    pictures, there = torch.randn(3, 3, 64, 64), _norms(model)
    with torch.no_grad():
        before = model(pictures).softmax(1)
        assert fusion.fuse(model, torch.zeros(1, 3, 64, 64)) == there
        after = model(pictures).softmax(1)
    assert _norms(model) == 0
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


class Shared(nn.Module):
    """One convolution whose output two BatchNorms take: neither can be folded into it."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1)
        self.first, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, images):
        made = self.convolution(images)
        return self.first(made) + 2 * self.second(made)


def test_a_convolution_that_feeds_two_batch_norms_is_left_alone():
    model, pictures = _with_statistics(Shared()), torch.randn(2, 3, 8, 8)
    before = model(pictures)
    assert fusion.fuse(model, pictures) == 0
    assert torch.equal(model(pictures), before)
    assert not model.convolution._forward_hooks
    assert not model.first._forward_pre_hooks
