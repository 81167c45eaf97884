"""Configs of release 0.1: refused in new trainings, read in old files."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

import mmtlalign
from mmtlalign.checkpoint.training_record import read_config
from mmtlalign.commands.train import translate_old_arguments
from mmtlalign.errors import UserError
from mmtlalign.old_arguments import modernise
from tests.test_models import test_tlalign, test_token_label

BCE = dict(test_tlalign.SOFT_CE, use_sigmoid=True)  # divided in the head
AREA = dict(type='mmtlalign.AreaTarget')
MONITORED = dict(AREA, monitor=True)
ALIGNED = dict(type='mmtlalign.AlignedTarget')


@pytest.mark.parametrize(
    'built, old, now, is_default',
    [
        (test_tlalign, dict(aligned=False), AREA, False),
        (test_tlalign, dict(aligned=False, monitor=True), MONITORED, False),
        (test_tlalign, dict(aligned=True), ALIGNED, True),
        # where labels went by area unless told otherwise
        (test_token_label, dict(aligned=False), AREA, True),
        (test_token_label, dict(aligned=True), ALIGNED, False),
    ],
)
def test_labels(built, old, now, is_default):
    written, told = (', '.join(f'{k}={v!r}' for k, v in part.items()) for part in (old, now))
    line = f'{written} is now target=dict({told})'
    cfg = built.config()
    written = {**copy.deepcopy(cfg), **old}
    assert modernise(written) == [line]
    assert written == (cfg if is_default else {**cfg, 'target': now})
    assert modernise(written) == []
    with pytest.raises(TypeError) as error:
        MODELS.build({**copy.deepcopy(cfg), **old})
    assert line in str(error.value) and '\n' not in str(error.value)


def test_other_models_are_left_alone():
    for model in (
        dict(type='ImageClassifier', aligned=False),
        dict(type='mmdet.FasterRCNN', backbone=dict(type='X')),
        test_tlalign.config(),
    ):
        before = copy.deepcopy(model)
        assert modernise(model) == [] and model == before


def old_config():
    cfg = test_tlalign.config(loss=dict(BCE), aligned=False, monitor=True)
    return Config(dict(model=cfg, default_scope='mmpretrain'))


def test_inference_goes_on_from_old_files():
    cfg = old_config()
    model = mmtlalign.get_model(cfg)
    assert cfg.model.aligned is False, 'the config stays as it is'
    assert model.target.monitor
    torch.manual_seed(0)
    assert model(torch.rand(1, 3, 16, 16)).shape == (1, 5)
    embedded = read_config(cfg.pretty_text, 'x.pth', trust=False)
    assert embedded.model.target == MONITORED
    assert mmtlalign.get_model(embedded).target.monitor


def test_a_new_training_is_told_what_to_write_and_an_old_one_resumes():
    with pytest.raises(UserError) as error:
        translate_old_arguments(old_config())
    message = str(error.value)
    assert "target=dict(type='mmtlalign.AreaTarget', monitor=True)" in message
    assert 'loss_weight=1/5, that is 1/num_classes' in message and '\n' not in message
    resumed = old_config()
    resumed.resume = True
    translate_old_arguments(resumed)
    assert resumed.model.target == MONITORED
    assert resumed.model.head.loss == dict(BCE, loss_weight=1 / 5)
    MODELS.build(resumed.model)
