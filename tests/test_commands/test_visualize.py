"""The picture of how labels move, on a trained tiny model."""

import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmtlalign.alignment import LabelTrace
from mmtlalign.apis import get_model
from mmtlalign.apis.channel_order import trained_order
from mmtlalign.apis.mixing import load_images, to_pictures

from ..tiny import write_project

TOOL = 'analysis_tools/visualize_alignment.py'
IMAGES = ('images/class0/0.png', 'images/class1/1.png')


@pytest.mark.slow
def test_shares_are_those_of_a_trace_and_the_picture_is_drawn(here, trained, capsys):
    here(TOOL, 'tiny.py', trained, '--img', *IMAGES, *'--box 0 2 1 4 --out new/a.png'.split())
    assert cv2.imread('new/a.png').std() > 0
    area, aligned = map(float, re.findall(r'share ([\d.]+)', capsys.readouterr().out))
    assert area == 1 - 6 / 16

    cfg = Config.fromfile('tiny.py')
    init_default_scope('mmpretrain')
    model = get_model(cfg, trained)
    a, b = (torch.from_numpy(cv2.imread(path)).permute(2, 0, 1) for path in IMAGES)
    mixed = a.clone()
    mixed[:, :8, 4:] = b[:, :8, 4:]  # patches of 4 px
    share = torch.ones(1, 4, 4)
    share[:, :2, 1:] = 0
    trace = LabelTrace(model.backbone)
    with torch.no_grad(), trace(share):
        model.backbone(model.data_preprocessor(dict(inputs=[mixed]))['inputs'])
    assert abs(trace.output_share.item() - aligned) < 1e-4


@pytest.mark.parametrize('to_rgb', [False, True])
@pytest.mark.parametrize('source', [[], [dict(type='LoadImageFromFile')]], ids=['memory', 'files'])
def test_red_is_drawn_as_red(tmp_path, to_rgb, source):
    write_project(tmp_path)
    cfg = Config.fromfile(tmp_path / 'tiny.py')
    cfg.data_preprocessor.to_rgb = to_rgb
    for phase in ('train', 'test'):
        cfg[f'{phase}_dataloader'].dataset.pipeline = [*source, dict(type='PackInputs')]
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 255  # of BGR
    cv2.imwrite(str(tmp_path / 'red.png'), red)
    init_default_scope('mmpretrain')
    preprocessor = get_model(cfg).data_preprocessor
    images = preprocessor(load_images(cfg, [str(tmp_path / 'red.png')] * 2))['inputs']
    model_sees_rgb = (source == []) != to_rgb
    channel = images[0, 0 if model_sees_rgb else 2]
    assert (channel > 2).all()  # (255 - 127) / 60
    pictures = to_pictures(images, preprocessor, trained_order(cfg))
    np.testing.assert_allclose(pictures[0, 0, 0], [1, 0, 0], atol=1e-6)
