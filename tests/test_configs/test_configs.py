"""Every TL-Align classifier is built and run for a step; all are built."""

import re

import numpy as np
import pytest
from mmpretrain.registry import DATASETS, HOOKS

from ..conftest import needs_operators
from .conftest import (
    ROOT,
    SPARED,
    build_model,
    cases,
    learning_rates,
    present,
    read,
    run_for_one_step,
    stem,
    tracked,
)
from .test_metafiles import load_tool

FOLDER = 'configs/classification/tlalign'
CONFIGS = tracked(FOLDER)
ALIGNED = [path for path in CONFIGS if stem(path).startswith('tlalign_')]
ALL = tracked('configs')


def test_list_is_complete():
    assert len(CONFIGS) > 40
    assert set(CONFIGS) == present(FOLDER)
    assert set(ALL) == present('configs') and len(ALL) > 170


@pytest.mark.slow
def test_all_are_built_in_full():
    """At full depth, but without storage; the README states their size."""
    needs_operators()
    tool, counts = load_tool('make_model_zoo'), {}
    for path in ALL:
        config = read(path)
        # the target has no parameters, and is all that differs in a twin
        key = str({**config.model, 'target': None})
        if key not in counts:
            counts[key] = tool.count_parameters(config)
        readme = (ROOT / path).with_name('README.md').read_text()
        stated = re.search(rf'\[{stem(path)}\]\S+ \| ([\d.]+) \|', readme)
        if '/mixing/' in path:  # which states none
            continue
        digits = len(stated[1].partition('.')[2])
        assert stated[1] == f'{counts[key] / 1e6:.{digits}f}', path


@pytest.mark.parametrize('path', cases(CONFIGS))
def test_runs_for_one_step(path, load, jpegs):
    config = load(path)
    assert config.train_dataloader.collate_fn.type == 'default_collate'
    model = build_model(config)
    log, changed = run_for_one_step(config, model, jpegs)
    if stem(path).startswith('none_'):
        assert 'lam' not in log
    else:
        assert 0 <= log['lam'] <= 1
    target = config.model.get('target', dict(monitor=True))
    assert ('aligned_share' in log) == target.get('monitor', False)
    first = next(
        name
        for name, p in model.backbone.named_parameters()
        if p.ndim > 1 and not name.endswith(SPARED)
    )
    assert changed[f'backbone.{first}']
    assert np.mean([*changed.values()]) > 0.8  # drop path may spare a block


@pytest.mark.parametrize('path', ALIGNED, ids=stem)
def test_twin_differs_in_labels_only(path):
    twin = path.replace('/tlalign_', '/cutmix_')
    assert twin in CONFIGS
    aligned, baseline = read(path).to_dict(), read(twin).to_dict()
    monitor = dict(monitor=True) if '-128e_' in path else {}  # of the study
    assert baseline['model'].pop('target') == dict(type='mmtlalign.AreaTarget', **monitor)
    assert 'target' not in aligned['model']
    assert baseline == aligned


@pytest.mark.parametrize('path', ALIGNED, ids=stem)
def test_grid_is_the_backbones(path):
    model = read(path).model
    # 4 px are the first grid of hierarchical backbones
    patch_size = model.backbone.get('patch_size', 4)
    sizes = {augment.patch_size for augment in model.train_cfg.augments}
    assert sizes == {patch_size}
    even = [augment.get('even_sides') for augment in model.train_cfg.augments]
    # only where the recipe is that of TL-Align's published code
    published = ('deit-' in path or 'beit-' in path) and 'in1k' in path
    assert even == [True] if published else not any(even)


@pytest.mark.parametrize('path', ALIGNED, ids=stem)
def test_datasets_and_hooks_exist(path, load):
    config = load(path)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert DATASETS.get(loader.dataset.type) is not None
    averages = ['EMAHook'] if 't2t-vit' in path else []
    hooks = [hook.type for hook in config.custom_hooks]
    assert hooks == ['mmtlalign.ResumeRandomState', *averages]
    assert all(HOOKS.get(hook) is not None for hook in hooks)
    for small in ('mini', 'digits'):
        if small in path:  # what bit-identical resuming needs
            assert config.train_dataloader.num_workers == 0


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
    ],
)
def test_learning_rates(name, first, peak, last, warm_up, load):
    (path,) = [path for path in CONFIGS if stem(path) == name]
    rates = learning_rates(load(path), epoch_length=4)
    assert rates[0] == pytest.approx(first)
    assert max(rates) == pytest.approx(peak, rel=1e-4)
    assert np.argmax(rates) in range(4 * warm_up - 1, 4 * warm_up + 4)
    assert rates == sorted(rates[: 4 * warm_up]) + sorted(rates[4 * warm_up :], reverse=True)
    assert rates[-1] == pytest.approx(last, rel=0.5)
