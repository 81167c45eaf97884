"""Every config of token labels is loaded, built and run for a step."""

import re

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, HOOKS

from mmtlalign.models import LVViT

from ..conftest import needs_operators
from .conftest import build_model, cases, present, read, run_for_one_step, stem, tracked

FOLDERS = ['configs/classification/tokenlabel', 'configs/segmentation/tokenlabel']
CONFIGS, SEGMENTERS = map(tracked, FOLDERS)
LABELLED = [path for path in CONFIGS if '/tokenlabel_' in path]


def test_lists_are_complete():
    assert len(CONFIGS) == 13 and len(SEGMENTERS) == 3
    assert len(LABELLED) == 10
    for folder, paths in zip(FOLDERS, (CONFIGS, SEGMENTERS)):
        assert present(folder) == set(paths)


@pytest.mark.parametrize('path', cases(CONFIGS))
def test_runs_for_one_step(path, load, jpegs):
    config = load(path)
    model = build_model(config)
    model.init_weights()
    log, changed = run_for_one_step(config, model, jpegs)
    assert ('loss_dense' in log) == (path in LABELLED)
    assert ('aligned_share' in log) == ('/tlalign_' in path)
    # Drop path may spare a block, and residual branches start closed.
    assert np.mean([*changed.values()]) > 0.7


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_datasets_and_hooks_exist(path):
    config = read(path)
    assert DATASETS.get(config.train_dataloader.dataset.type) is not None
    hooks = [hook.type for hook in config.custom_hooks]
    assert all(HOOKS.get(hook) is not None for hook in hooks)
    assert hooks[0] == 'mmtlalign.ResumeRandomState'
    assert ('EMAHook' in hooks) == ('in1k' in path)
    if path in LABELLED:
        assert 'mmtlalign.CheckTokenLabels' in hooks


@pytest.mark.parametrize('path', LABELLED, ids=stem)
def test_only_transforms_that_carry_labels_move_images(path):
    pipeline = read(path).train_dataloader.dataset.pipeline
    kinds = [step.type for step in pipeline]
    loaded = kinds.index('mmtlalign.LoadTokenLabels')
    for kind in kinds[loaded:]:
        assert kind.startswith('mmtlalign.') or kind in ('RandomErasing', 'PackInputs')
    assert pipeline[-1].algorithm_keys == ('token_labels',)
    assert kinds.index('mmtlalign.RandomFlip') < kinds.index('mmtlalign.RandomResizedCrop')


def named_size(path):
    """Edge in px: the usual one of the data unless the name says another."""
    if named := re.search(r'-(\d+)px', path):
        return int(named[1])
    return 224 if 'in1k' in path else 32


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_sizes_agree(path):
    config = read(path)
    size = (
        next(
            step.scale
            for step in config.train_dataloader.dataset.pipeline
            if step.type.endswith('RandomResizedCrop')
        )
        if '/annotator_' not in path
        else 32
    )
    backbone = config.model.backbone
    assert backbone.get('img_size', 32) == size
    assert size == named_size(path)
    crop = [
        step.crop_size
        for step in config.val_dataloader.dataset.pipeline
        if step.type == 'CenterCrop'
    ]
    assert crop in ([], [size])
    if 'in1k' in path:
        lr = config.optim_wrapper.optimizer.lr
        assert config.param_scheduler[0].start_factor * lr == (pytest.approx(1e-6))


def test_twin_without_token_labels():
    """Same images and mixing; other targets, no dense loss, no maps."""
    ours, twin = (
        read(f'{FOLDERS[0]}/{name}_lvvit-mini_1xb128_cifar10.py').to_dict()
        for name in ('tokenlabel', 'mixtoken')
    )
    head = twin['model']['head']
    assert head.pop('dense_weight') == 0
    assert head.pop('cls_target') == 'ground_truth'
    for config in (ours, twin):
        for place in (config['train_dataloader']['dataset'], config):
            steps = place.pop('pipeline', None) or place.pop('train_pipeline')
            kinds = [step['type'] for step in steps]
            if config is ours:
                kinds.remove('mmtlalign.LoadTokenLabels')
            assert kinds == [
                'LoadImageFromFile',
                'mmtlalign.RandomFlip',
                'mmtlalign.RandomResizedCrop',
                'PackInputs',
            ]
    assert ours == twin


def test_annotator_sees_the_same_images():
    annotator, training = (
        read(f'{FOLDERS[0]}/{name}_1xb128_cifar10.py').train_dataloader
        for name in ('annotator_resnet-mini', 'tokenlabel_lvvit-mini')
    )
    for dataset in (annotator.dataset, training.dataset):
        dataset.pop('pipeline')
    assert annotator.dataset == training.dataset


@pytest.mark.parametrize('path', [p for p in CONFIGS if p.endswith('px.py')], ids=stem)
def test_fine_tuning_starts_where_pretraining_ends(path):
    config = read(path)
    _, stem, file = config.load_from.split('/')
    before = read(f'{FOLDERS[0]}/{stem}.py')
    assert file == f'epoch_{before.train_cfg.max_epochs}.pth'
    assert before.model.backbone.arch == config.model.backbone.arch
    assert before.model.head == config.model.head


@pytest.mark.parametrize('path', SEGMENTERS, ids=stem)
def test_segmenters(path):
    """Trained for a step at few layers, with the outputs' true numbers."""
    needs_operators()
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS as SEGMENTERS_BY_NAME
    from mmseg.structures import SegDataSample

    config = read(path)
    backbone = config.model.backbone
    init_cfg = backbone.pop('init_cfg')
    _, stem, file = init_cfg.checkpoint.split('/')
    before = read(f'{FOLDERS[0]}/{stem}.py')
    assert file == f'epoch_{before.train_cfg.max_epochs}.pth'
    assert before.model.backbone.arch == backbone.arch
    assert before.model.backbone.img_size == backbone.img_size
    assert init_cfg.prefix == 'backbone.'
    depth = LVViT.arch_zoo[backbone.arch]['num_layers']
    assert max(backbone.out_indices) == depth - 1
    # four layers, each of which is an output
    backbone.arch = {**LVViT.arch_zoo[backbone.arch], 'num_layers': 4, 'stem_channels': 8}
    backbone.out_indices = (0, 1, 2, 3)
    config.model.decode_head.norm_cfg = dict(type='BN')
    config.model.auxiliary_head.norm_cfg = dict(type='BN')
    config.model.neck.norm_cfg = dict(type='BN')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = SEGMENTERS_BY_NAME.build(config.model)
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, 150, (1, 64, 64))),
            metainfo=dict(img_shape=(64, 64)),
        )
    ] * 2
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert model.backbone.patch_embed.stem[0].weight.grad.abs().max() > 0
