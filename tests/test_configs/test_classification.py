"""Every classifier is built, trained for a step and tested."""

import re

import numpy as np
import pytest
import torch
from mmpretrain.registry import DATASETS, HOOKS
from mmpretrain.structures import DataSample

from .recipes import (
    SPARED,
    build_model,
    cases,
    first_steps,
    learning_rates,
    present,
    read,
    run_for_one_step,
    run_pipeline,
    stem,
    tracked,
)

FOLDER = 'configs/classification'
ALL = tracked('configs')
# Of the data sets to transfer to, one of decoded images and one of files: other
# recipes differ from these in what the tests of their own folders look at.
STEPS = [
    path
    for path in tracked(FOLDER)
    if not re.search('/lacvit_|/planted/', path)
    and not re.search('/(finetune|lacvit)/.*(cifar100|cub200|pets|cars)', path)
]
CONFIGS = [path for path in STEPS if not re.search('/finetune/|/lacvit/', path)]
AREA, ALIGNED = 'mmtlalign.AreaTarget', 'mmtlalign.AlignedTarget'


def test_list_is_complete():
    assert set(ALL) == present('configs') and len(ALL) > 170
    assert len(CONFIGS) > 80 and len(STEPS) == len(CONFIGS) + 8 + 5


@pytest.mark.slow
@pytest.mark.parametrize('path', cases(STEPS))
def test_runs_for_one_step(path, load, jpegs):
    config = load(path)
    target = config.model.get('target', dict(type=ALIGNED))
    is_traced = target['type'] != AREA or 'monitor' in target
    if config.model.type != 'mmtlalign.TLAlignClassifier' and '/tlalign_' not in path:
        is_traced = False  # token labels, and the host's classifier
    mixes = path in CONFIGS and config.model.get('train_cfg')
    model = build_model(config)
    if '/tokenlabel/' in path:
        model.init_weights()
    assert 'paramwise_cfg' in config.optim_wrapper or '/crossentropy_' in path
    log, changed = run_for_one_step(config, model, jpegs)
    if mixes and '/tokenlabel_' not in path and '/mixtoken_' not in path:
        assert log['lam'] == 1 if '/cutout_' in path else 0 <= log['lam'] <= 1
    assert ('aligned_share' in log) == is_traced
    if is_traced:
        assert 0 <= log['aligned_share'] <= 1
    has_dense_loss = '/tokenlabel_' in path or '/tlalign-tokens_' in path
    assert ('loss_dense' in log) == has_dense_loss
    if has_dense_loss:
        torch.testing.assert_close(log['loss'], log['loss_cls'] + log['loss_dense'])
    first = next(
        name
        for name, p in model.backbone.named_parameters()
        if p.ndim > 1 and not name.endswith(SPARED)
    )
    assert changed[f'backbone.{first}']
    # drop path may spare a block; residual branches may start closed
    assert np.mean([*changed.values()]) > (0.7 if '/tokenlabel/' in path else 0.8)


@pytest.mark.parametrize('path', [p for p in CONFIGS if '/mixing/' in p and 'mini' in p], ids=stem)
def test_any_mask_trains_with_aligned_labels(path, load, jpegs):
    config = load(path)
    config.merge_from_dict({'model.target.type': ALIGNED})
    model = build_model(config).train()
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    losses = model.loss(**model.data_preprocessor(data, training=True))
    assert torch.isfinite(losses['loss'])
    assert 0 <= losses['aligned_share'] <= 1


def test_grids_are_the_backbones():
    for path in CONFIGS:
        model = read(path).model
        if not model.get('train_cfg'):
            continue
        augments = model.train_cfg.augments
        # 4 px are the first grid of hierarchical backbones
        patch_size = model.backbone.get('patch_size', 16 if 'lvvit-s' in path else 4)
        if '/tokenmix_swin' in path:
            patch_size = 16  # cells of the mask and of the maps, as for DeiT
        if '/tokenlabel/' not in path:
            assert {augment.patch_size for augment in augments} == {patch_size}, path
        # only where the recipe is that of TL-Align's published code
        published = re.search(r'/(tlalign|cutmix)_(deit-|beit-).*in1k', path)
        if '/tlalign/' in path:
            assert [augment.get('even_sides', False) for augment in augments] == (
                [True] if published else [False] * len(augments)
            ), path
        # 4x4 cells as published, but where patches of 16 px do not fit
        cells = {
            augment.cell_size * patch_size
            for augment in augments
            if augment.type.endswith('.MaskMix')
        }
        if cells and '/maskmix_deit-small_' not in path:
            assert cells == {56 if 'in1k' in path else 8}, path


@pytest.mark.slow
def test_sizes_agree():
    """Also with the name, which says it where it is not the usual one of the data."""
    for path in STEPS:
        config = read(path)
        named = re.search(r'-(\d+)px', path)
        size = int(named[1]) if named else 224 if 'in1k' in path else 32
        assert config.model.backbone.get('img_size', size) == size, path
        for loader, kinds in (
            (config.train_dataloader, ('RandomResizedCrop',)),
            (config.test_dataloader, ('CenterCrop', 'Resize')),
        ):
            found = {
                step.get('crop_size', step.get('scale'))
                for step in loader.dataset.pipeline
                if step.type.split('.')[-1] in kinds
            }
            assert found <= {size, (size, size)} and (found or size == 32), path


def test_datasets_and_hooks_exist(load):
    for path in CONFIGS:
        config = load(path)
        for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
            assert DATASETS.get(loader.dataset.type) is not None
            assert loader.collate_fn.type == 'default_collate'
        hooks = [hook.type for hook in config.custom_hooks]
        assert all(HOOKS.get(hook) is not None for hook in hooks)
        assert hooks[0] == 'mmtlalign.ResumeRandomState'
        averages = re.search('t2t-vit|/transmix_deit-small|/tokenmix_deit-small', path) or (
            '/tokenlabel/' in path and 'in1k' in path
        )
        assert ('EMAHook' in hooks) == bool(averages), path
        steps = [step.type for step in config.train_dataloader.dataset.pipeline]
        checked = 'mmtlalign.CheckTokenLabels' in hooks
        assert checked or 'mmtlalign.LoadTokenLabels' not in steps, path
        assert len(hooks) == 1 + bool(averages) + checked, path
        if 'mini' in path or 'digits' in path:  # what bit-identical resuming needs
            assert config.train_dataloader.num_workers == 0


@pytest.mark.parametrize(
    'name', ['transmix_deit-small', 'mixpro_deit', 'tokenmix_deit', 'tokenmix_swin']
)
def test_recipes_of_the_authors(name):
    """What those of TransMix, MixPro and TokenMix have, and TL-Align's have not."""
    paths = [path for path in CONFIGS if f'/{name}' in path and 'digits' not in path]
    for path in paths:
        config = read(path)
        model, method = config.model, name.split('_')[0]
        masks = [mask.type.removeprefix('mmtlalign.') for mask in model.train_cfg.augments]
        large = 'in1k' in path
        if large or method == 'tokenmix':
            assert (model.target, masks, model.train_cfg.get('probs')) == {
                'transmix': (
                    dict(type='mmtlalign.AttentionTarget', ratio=0.5),
                    ['Mixup', 'CutMix'],
                    [0.2, 0.8],
                ),
                'mixpro': (
                    dict(type='mmtlalign.ProgressiveTarget'),
                    ['MaskMix', 'Mixup', 'CutMix'],
                    [0.5, 0.25, 0.25],
                ),
                'tokenmix': (
                    dict(type='mmtlalign.TokenMixTarget'),
                    ['Mixup', 'TokenMix'] if large else ['TokenMix'],
                    None,
                ),
            }[method]
        assert config.train_dataloader.sampler.type == 'DefaultSampler'
        steps = [step.type for step in config.train_dataloader.dataset.pipeline]
        assert ('RandomErasing' in steps) == (large and method != 'transmix')
        testing = config.test_dataloader.dataset.pipeline
        scales = [step.scale for step in testing if step.type == 'ResizeEdge']
        assert scales == ([256] if large else [])
        if method == 'tokenmix':  # the mean of the binary cross entropies
            assert model.head.loss.use_sigmoid
            assert model.head.loss.loss_weight == 1 / model.head.num_classes


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, first, peak, last, warm_up',
    [
        ('tlalign_deit-small_8xb128_in1k', 1e-6, 1e-3, 1e-5, 5),
        ('tlalign_swin-base_16xb64_in1k', 1e-6, 1e-3, 1e-5, 20),
        ('tlalign_deit3-small-p16_8xb256_in1k', 1e-6, 4e-3, 1e-5, 5),
        ('tlalign_pvt-small_8xb128_in1k', 1e-6, 1e-3, 1e-5, 5),
        ('tlalign_twins-svt-small_8xb128_in1k', 1e-6, 1e-3, 1e-5, 5),
        ('tlalign_t2t-vit-t-14_8xb64_in1k', 1e-6, 5e-4, 1e-5, 10),
        ('tlalign_deit-small_1xb100_cifar100-224px', 1e-8, 1e-3, 1e-6, 20),
        ('tlalign_swin-tiny_1xb100_cifar10-224px', 5e-9, 5e-4, 1e-6, 20),
        ('tlalign_deit-mini_1xb128_cifar10', 1e-6, 1e-3, 1e-5, 1),
        ('transmix_deit-small_8xb128_in1k', 1e-6, 1e-3, 1e-5, 20),
        ('mixpro_deit-small-p14_8xb128_in1k', 1e-6, 1e-3, 1e-5, 20),
        ('tokenmix_deit-small_8xb128_in1k', 1e-6, 1e-3, 1e-5, 5),
        ('tokenmix_swin-tiny_16xb64_in1k', 1e-6, 1e-3, 1e-5, 20),
    ],
)
def test_learning_rates(name, first, peak, last, warm_up, load):
    (path,) = [path for path in CONFIGS if stem(path) == name]
    config = load(path)
    rates = learning_rates(config, epoch_length=4)
    assert rates[0] == pytest.approx(first)
    assert max(rates) == pytest.approx(peak, rel=1e-4)
    assert np.argmax(rates) in range(4 * warm_up - 1, 4 * warm_up + 4)
    assert rates == sorted(rates[: 4 * warm_up]) + sorted(rates[4 * warm_up :], reverse=True)
    assert rates[-1] == pytest.approx(last, rel=0.5)
    if 'mix_' in name or 'mixpro' in name:
        assert config.optim_wrapper.optimizer.weight_decay == (0.03 if 'transmix' in name else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['deit', 'swin'])
def test_arms_of_the_study_start_alike_and_see_the_same_mixes(backbone):
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    arms = [
        f'{FOLDER}/tlalign/{arm}_{backbone}-mini_1xb128-128e_cifar10-2500.py'
        for arm in ('none', 'cutmix', 'tlalign')
    ]
    inputs, losses, _ = first_steps(arms, dict(inputs=list(images), data_samples=samples))
    assert torch.equal(inputs[1], inputs[2])
    assert not torch.equal(inputs[0], inputs[1])
    assert losses[0].keys() == {'loss'} and losses[1].keys() >= {'token_fluctuation', 'lam'}
