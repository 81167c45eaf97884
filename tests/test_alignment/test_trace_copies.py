"""Copies of a model and its trace, and models across processes."""

import copy
import pickle

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_equals_oracle, assert_untouched, snapshot


class Model(nn.Module):
    """What a classifier does: a backbone and the trace that follows it."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.trace = LabelTrace(backbone, record=True)

    def forward(self, images, token_share):
        with self.trace(token_share):
            return self.backbone(images)


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def average(model):
    return ExponentialMovingAverage(model, momentum=0.5).module


@pytest.mark.parametrize('make_copy', [copy.deepcopy, through_pickle, average])
@pytest.mark.parametrize('type', ['VisionTransformer', 'SwinTransformer'])
def test_copy_moves_its_own_shares(type, make_copy):
    backbone, images, share = toys.case(type)
    model = Model(backbone)
    unused = len(pickle.dumps(model))
    model(images, share)
    kept = model.trace.output_share.clone()
    assert len(pickle.dumps(model)) == unused  # the state holds no shares

    twin = make_copy(model)
    assert twin.trace.backbone is twin.backbone
    with pytest.raises(RuntimeError):
        twin.trace.output_share
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

    before = snapshot(model)
    with twin.trace(share.flip(-1)):
        assert_untouched(model, before)
        twin.backbone(images)
    assert_equals_oracle(twin.trace, twin.backbone, images, share.flip(-1))
    assert torch.equal(model.trace.output_share, kept)
    # and both at once
    with twin.trace(share.flip(-1)):
        model(images, share)
        twin.backbone(images)
    assert_equals_oracle(model.trace, model.backbone, images, share)
    assert_equals_oracle(twin.trace, twin.backbone, images, share.flip(-1))
