"""Every TL-Align classifier is loaded, built and run for a step."""
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
)
from mmpretrain.utils import register_all_modules

ROOT = Path(__file__).resolve().parents[2]
FOLDER = 'configs/classification/tlalign'
MAX_PARAMETERS = 30e6  # above, the depth is cut to 2


def tracked_configs():
    return subprocess.run(
        ['git', 'ls-files', '--', f'{FOLDER}/*.py'], cwd=ROOT, check=True,
        capture_output=True, text=True).stdout.split()


CONFIGS = tracked_configs()
ALIGNED = [path for path in CONFIGS if Path(path).stem.startswith('tlalign_')]


def test_list_is_complete():
    present = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / FOLDER).glob('*.py')
    }
    assert len(CONFIGS) > 0
    assert set(CONFIGS) == present


@pytest.fixture
def load():
    """Load a config in the scope it names, as the tools do."""
    scopes = []

    def load_config(path):
        config = Config.fromfile(ROOT / path)
        context = DefaultScope.overwrite_default_scope(config.default_scope)
        context.__enter__()
        scopes.append(context)
        return config

    register_all_modules(init_default_scope=False)
    yield load_config
    for context in reversed(scopes):
        context.__exit__(None, None, None)


@pytest.fixture(scope='session')
def jpegs(tmp_path_factory):
    """A photograph-like JPEG of 300x260 and one of 32x32 pixels."""
    folder = tmp_path_factory.mktemp('jpegs')
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    paths = {}
    for name, size in (('large', (260, 300)), ('small', (32, 32))):
        paths[name] = str(folder / f'{name}.jpg')
        cv2.imwrite(paths[name], cv2.resize(coarse, size))
    return paths


def run_pipeline(loader, jpegs, labels):
    """A batch of one JPEG, through the loader's own pipeline."""
    pipeline = Compose(
        [TRANSFORMS.build(step) for step in loader.dataset.pipeline])
    path = jpegs['large' if loader.dataset.type == 'ImageNet' else 'small']
    reads_files = loader.dataset.pipeline[0].type == 'LoadImageFromFile'
    image = dict(img_path=path) if reads_files else dict(img=cv2.imread(path))
    return default_collate(
        [pipeline(dict(**image, gt_label=label)) for label in labels])


def cut_depth(backbone):
    """Two layers (per stage) of the same width, from the host's table."""
    cls = MODELS.get(backbone.type)
    arch = dict(cls.arch_zoo[backbone.arch])
    if 'depths' in arch:
        arch['depths'] = [2] * len(arch['depths'])
    else:
        arch['num_layers'] = 2
    backbone.arch = arch


def build_model(config):
    model = config.model
    model.data_preprocessor = config.data_preprocessor
    with torch.random.fork_rng():
        built = MODELS.build(model)
    if sum(p.numel() for p in built.parameters()) > MAX_PARAMETERS:
        cut_depth(model.backbone)
        built = MODELS.build(model)
    return built


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: Path(path).stem)
def test_runs_for_one_step(path, load, jpegs):
    config = load(path)
    assert config.train_dataloader.collate_fn.type == 'default_collate'
    model = build_model(config).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    check_weight_decay(model, optimizer.optimizer)
    before = {name: p.clone() for name, p in model.named_parameters()}

    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    log = model.train_step(data, optimizer)

    assert torch.isfinite(log['loss'])
    assert 0 <= log['lam'] <= 1
    assert ('aligned_share' in log) == ('target' not in config.model)
    changed = [
        name for name, parameter in model.named_parameters()
        if not torch.equal(parameter, before[name])
    ]
    assert 'backbone.patch_embed.projection.weight' in changed
    assert len(changed) > 0.8 * len(before)  # drop path may spare a block

    data = run_pipeline(config.val_dataloader, jpegs, labels=[3])
    with torch.no_grad():
        sample, = model.eval().val_step(data)
    assert sample.pred_score.shape == (config.data_preprocessor.num_classes, )
    assert sample.pred_score.sum() == pytest.approx(1, abs=1e-4)


def check_weight_decay(model, optimizer):
    """Matrices and kernels decay; vectors, tokens and positions do not."""
    decays = {
        id(parameter): group['weight_decay']
        for group in optimizer.param_groups for parameter in group['params']
    }
    spared = ('cls_token', 'pos_embed', 'relative_position_bias_table')
    for name, parameter in model.named_parameters():
        decays_expected = parameter.ndim > 1 and not name.endswith(spared)
        assert (decays[id(parameter)] > 0) == decays_expected, name


@pytest.mark.parametrize('path', ALIGNED, ids=lambda path: Path(path).stem)
def test_twin_differs_in_labels_only(path):
    twin = path.replace('/tlalign_', '/cutmix_')
    assert twin in CONFIGS
    aligned = Config.fromfile(ROOT / path).to_dict()
    baseline = Config.fromfile(ROOT / twin).to_dict()
    assert baseline['model'].pop('target') == dict(
        type='mmtlalign.AreaTarget')
    assert 'target' not in aligned['model']
    assert baseline == aligned


@pytest.mark.parametrize('path', ALIGNED, ids=lambda path: Path(path).stem)
def test_grid_is_the_backbones(path):
    model = Config.fromfile(ROOT / path).model
    patch_size = model.backbone.get('patch_size', 4)  # Swin's default
    sizes = {augment.patch_size for augment in model.train_cfg.augments}
    assert sizes == {patch_size}
    even = [augment.get('even_sides') for augment in model.train_cfg.augments]
    published = 'deit-' in path and 'in1k' in path
    assert even == [True] if published else not any(even)


@pytest.mark.parametrize('path', ALIGNED, ids=lambda path: Path(path).stem)
def test_datasets_and_hooks_exist(path, load):
    config = load(path)
    for loader in (config.train_dataloader, config.val_dataloader,
                   config.test_dataloader):
        assert DATASETS.get(loader.dataset.type) is not None
    assert [hook.type for hook in config.custom_hooks
            ] == ['mmtlalign.ResumeRandomState']
    assert HOOKS.get(config.custom_hooks[0].type) is not None
    for small in ('mini', 'digits'):
        if small in path:  # what bit-identical resuming needs
            assert config.train_dataloader.num_workers == 0


def learning_rates(config, epoch_length=4):
    """Learning rate of every iteration of a run with short epochs."""
    optim = config.optim_wrapper.optimizer
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=optim.lr)
    schedulers = []
    for schedule in config.param_scheduler:
        schedule = dict(schedule)
        schedule.pop('_scope_', None)
        schedule.setdefault('end', config.train_cfg.max_epochs)
        cls = PARAM_SCHEDULERS.get(schedule.pop('type'))
        if schedule.pop('convert_to_iter_based', False):
            schedulers.append(cls.build_iter_from_epoch(
                optimizer, **schedule, epoch_length=epoch_length))
        else:
            schedulers.append(cls(optimizer, **schedule))
    rates = []
    for i in range(config.train_cfg.max_epochs * epoch_length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            if not scheduler.by_epoch or (i + 1) % epoch_length == 0:
                scheduler.step()
    return rates


@pytest.mark.parametrize('name, first, peak, last, warm_up', [
    ('tlalign_deit-small_8xb128_in1k', 1e-6, 1e-3, 1e-5, 5),
    ('tlalign_swin-base_16xb64_in1k', 1e-6, 1e-3, 1e-5, 20),
    ('tlalign_deit3-small-p16_8xb256_in1k', 1e-6, 4e-3, 1e-5, 5),
    ('tlalign_deit-small_1xb100_cifar100-224px', 1e-8, 1e-3, 1e-6, 20),
    ('tlalign_swin-tiny_1xb100_cifar10-224px', 5e-9, 5e-4, 1e-6, 20),
    ('tlalign_deit-mini_1xb128_cifar10', 1e-6, 1e-3, 1e-5, 1),
])
def test_learning_rates(name, first, peak, last, warm_up, load):
    path, = [path for path in CONFIGS if Path(path).stem == name]
    rates = learning_rates(load(path), epoch_length=4)
    assert rates[0] == pytest.approx(first)
    assert max(rates) == pytest.approx(peak, rel=1e-4)
    assert np.argmax(rates) in range(4 * warm_up - 1, 4 * warm_up + 4)
    assert rates == sorted(rates[:4 * warm_up]) + sorted(
        rates[4 * warm_up:], reverse=True)
    assert rates[-1] == pytest.approx(last, rel=0.5)
