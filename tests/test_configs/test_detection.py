"""Detectors: maps fit the anchors; one of each family is trained for a step."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from ..conftest import needs_operators
from .recipes import cases, read, stem, tracked, without_storage
from .test_dense import build, save_classifier, shorten

needs_operators()
demo_mm_inputs = pytest.importorskip('mmdet.testing').demo_mm_inputs

CONFIGS = tracked('configs/detection')
COCO = [path for path in CONFIGS if path.endswith('_coco.py')]


def as_list(one_or_several):
    """A cascade has lists where others have a single head or sampler."""
    several = isinstance(one_or_several, (list, nn.ModuleList))
    return one_or_several if several else [one_or_several]


@pytest.mark.slow
@pytest.mark.parametrize('path', cases(CONFIGS))
def test_maps_fit_the_anchors(path, load):
    config = load(path)
    strides = config.model.rpn_head.anchor_generator.strides
    patch = config.model.backbone.get('patch_size', 4)
    assert strides[0] == {2: 2, 4: 2 if 'deit' in path else 4, 16: 4}[patch]
    model = build(config.model).eval()
    with without_storage():
        maps = model.extract_feat(torch.randn(1, 3, 64, 128))
    assert [tuple(m.shape[2:]) for m in maps] == [
        (64 // stride, 128 // stride) for stride in strides
    ]
    extractors = [model.roi_head.bbox_roi_extractor]
    if model.with_mask:
        extractors.append(model.roi_head.mask_roi_extractor)
    for extractor in sum(map(list, map(as_list, extractors)), []):
        used = extractor.featmap_strides
        assert used == strides[: len(used)]
        assert extractor.finest_scale == 14 * strides[0]  # 56 at stride 4


@pytest.mark.slow
def test_schedules_and_metrics():
    drop_paths = {}
    for path in CONFIGS:
        config = read(path)
        for phase in ('val', 'test'):
            dataset = config[f'{phase}_dataloader'].dataset
            measured = config[f'{phase}_evaluator'].ann_file
            assert Path(measured) == Path(dataset.data_root, dataset.ann_file)
        epochs = config.train_cfg.max_epochs
        warm_up, steps = config.param_scheduler[:2]
        if path in COCO:
            kind, net, times = re.match(
                r'(.*)_tlalign-([a-z]+-[a-z]+)_.*-(\dx)', stem(path)
            ).groups()
            assert epochs == {'1x': 12, '3x': 36}[times]
            assert list(steps.milestones) == ([8, 11] if epochs == 12 else [27, 33])
            assert config.optim_wrapper.optimizer.lr == 1e-4
            drop_paths[kind, net, times] = config.model.backbone.drop_path_rate
        elif 'bccd' in path:
            assert epochs % config.train_cfg.val_interval == 0
        if 'scenes' not in path:
            assert steps.end == epochs
            assert all(epochs / 2 < step < epochs for step in steps.milestones)
            assert warm_up.end <= 500 and not warm_up.by_epoch
    # those of Swin's and ViT-Adapter's recipes
    rates = {'1x': dict(tiny=0.1, small=0.2, base=0.3), '3x': dict(tiny=0.2, small=0.2, base=0.3)}
    assert drop_paths == {
        (kind, net, times): 0.1 if 'deit' in net else rates[times][net.split('-')[1]]
        for kind, net, times in drop_paths
    }


FAMILIES = [
    'cascade-mask-rcnn_tlalign-swin-tiny_fpn_8xb2-ms-crop-3x_coco',
    'mask-rcnn_tlalign-deit-small_sfp_8xb2-ms-crop-3x_coco',
    'faster-rcnn_tlalign-swin-mini_fpn_1xb2_bccd',
    'faster-rcnn_tlalign-deit-mini_sfp_1xb2_bccd',
]


def slim(model):
    """Fewer regions and narrower box heads."""
    for stage in as_list(model.train_cfg.rcnn):
        stage.sampler.num = 8
    model.train_cfg.rpn_proposal.max_per_img = 20
    model.test_cfg.rpn.max_per_img = 20
    for head in as_list(model.roi_head.bbox_head):
        head.fc_out_channels = 16


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILIES)
def test_step_and_prediction(name, load, tmp_path):
    config = load(f'configs/detection/tlalign/{name}.py')
    model = config.model
    slim(model)
    shorten(model.backbone)
    saved = save_classifier(model.backbone, tmp_path / 'classifier.pth')

    detector = MODELS.build(model)
    detector.init_weights()
    loaded = detector.backbone.state_dict()
    stages = len(model.backbone.arch.get('depths', []))
    new = {f'norm{i}.{kind}' for i in range(stages - 1) for kind in ('weight', 'bias')}
    assert loaded.keys() - saved.keys() == new
    assert saved.keys() <= loaded.keys() and len(saved) > 20
    for key in saved:
        assert torch.equal(loaded[key], saved[key]), key

    with_mask = 'mask_head' in model.roi_head
    num_classes = 80 if 'coco' in name else 3
    optimizer = build_optim_wrapper(detector, config.optim_wrapper)
    data = demo_mm_inputs(
        2, [(3, 64, 96)] * 2, num_items=[2, 1], num_classes=num_classes, with_mask=with_mask
    )
    log = detector.train().train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    assert any('mask' in key for key in log) == with_mask
    key = 'patch_embed.projection.weight'
    assert not torch.equal(detector.backbone.state_dict()[key], saved[key])
    with torch.no_grad():
        results = detector.eval().test_step(data)
    assert all(('masks' in result.pred_instances) == with_mask for result in results)
