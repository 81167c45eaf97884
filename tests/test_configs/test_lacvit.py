"""LaCViT's configs belong together in threes, and one of each kind is run."""

from itertools import product

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.utils import register_all_modules

from .recipes import build_model, changes, present, read, run_pipeline, stem

FOLDER = 'configs/classification/lacvit'
KINDS = (
    'lacvit_{}_stage1_8xb128_{}-224px',
    'lacvit_{}_stage2_1xb128_{}-224px',
    'crossentropy_{}_1xb128_{}-224px',
)
NETWORKS = {'deit-small': 384, 'vit-base': 768, 'deit-mini': 128}
# Type of the data set, split that is trained on, number of classes. All are
# tested on the split 'test'.
DATA = {
    'cifar10': ('CIFAR10', 'train', 10),
    'cifar100': ('CIFAR100', 'train', 100),
    'cub200': ('CUB', 'train', 200),
    'flowers102': ('Flowers102', 'trainval', 102),
    'oxford-pets': ('OxfordIIITPet', 'trainval', 37),
    'stanford-cars': ('StanfordCars', 'train', 196),
}
LARGE = list(product(['deit-small', 'vit-base'], DATA))
MINI = (
    'lacvit_deit-mini_stage1_1xb128_cifar10',
    'lacvit_deit-mini_stage2_1xb128_cifar10',
    'crossentropy_deit-mini_1xb128_cifar10',
)
# Three configs that belong together
TRIOS = [*(tuple(kind.format(*names) for kind in KINDS) for names in LARGE), MINI]
CIFAR = tuple(kind.format('deit-small', 'cifar10') for kind in KINDS)
FILES = tuple(kind.format('vit-base', 'flowers102') for kind in KINDS)


def load(name):
    return read(f'{FOLDER}/{name}.py')


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def test_list_is_complete():
    assert set(map(stem, present(FOLDER))) == {name for trio in TRIOS for name in trio}


@pytest.mark.slow
@pytest.mark.parametrize('network, data', LARGE)
def test_splits_do_not_leak(network, data):
    """One split is trained on and is the bank; another is tested, whole."""
    type, split, num_classes = DATA[data]
    for kind in KINDS:
        config = load(kind.format(network, data))
        train, val, test = (
            config[f'{phase}_dataloader'].dataset for phase in ('train', 'val', 'test')
        )
        assert (train.type, train.split) == (type, split)
        assert (test.type, test.split) == (type, 'test')
        assert (train.data_root, val) == (test.data_root, test)
        assert not config.test_dataloader.get('drop_last', False)
        assert not config.test_dataloader.sampler.shuffle
        if 'head' in config.model:
            assert config.model.head.num_classes == num_classes
    classes = DATASETS.get(type).METAINFO.get('classes')
    assert classes is None or len(classes) == num_classes


def test_splits_of_the_mini_do_not_leak():
    for name in MINI:
        config = load(name)
        train, test = (config[f'{phase}_dataloader'].dataset for phase in ('train', 'test'))
        assert (train.data_prefix, test.data_prefix) == ('train', 'val')
        assert train.num_samples == 5000


@pytest.mark.slow
@pytest.mark.parametrize('trio', TRIOS, ids=lambda trio: trio[0])
def test_three_that_belong_together(trio):
    stage1, stage2, twin = map(load, trio)
    # Both ways start from the same weights and the same network ...
    assert stage1.model.backbone == twin.model.backbone
    assert stage1.data_preprocessor == twin.data_preprocessor
    # ... on the same images, of which stage 1 sees two views at a time.
    pipeline = {'dataset.pipeline': stage1.train_dataloader.dataset.pipeline}
    assert changes(stage1.train_dataloader, twin.train_dataloader) == pipeline
    assert changes(stage2.train_dataloader, twin.train_dataloader) == {}
    assert stage1.test_dataloader == stage2.test_dataloader == twin.test_dataloader
    (views,) = [
        step for step in stage1.train_dataloader.dataset.pipeline if step.type == 'MultiView'
    ]
    assert views.num_views == 2
    # Stage 2 is the twin, frozen, from the last epoch of stage 1.
    depth = 6 if 'mini' in trio[0] else 12
    epochs = stage1.train_cfg.max_epochs
    found = changes(stage2.model.to_dict(), twin.model.to_dict())
    assert found == {
        'backbone.init_cfg.checkpoint': f'work_dirs/{trio[0]}/epoch_{epochs}.pth',
        'backbone.frozen_stages': depth,
        'backbone.drop_path_rate': 0.0,
    }
    (width,) = [w for name, w in NETWORKS.items() if f'_{name}_' in trio[0]]
    assert stage1.model.neck.in_channels == twin.model.head.in_channels == width
    with torch.device('meta'):
        encoder = MODELS.build(twin.model.backbone)
    assert (encoder.embed_dims, len(encoder.layers)) == (width, depth)
    for config in (stage1, stage2, twin):
        assert 'save_best' not in config.default_hooks.checkpoint
        assert [hook.type for hook in config.custom_hooks] == [
            'mmtlalign.ResumeRandomState',
            'mmtlalign.EncoderFeatures',
        ]
    measured = [metric.type for metric in stage1.test_evaluator]
    assert measured == ['mmtlalign.KNNAccuracy', 'mmtlalign.LinearProbe', 'mmtlalign.Isotropy']
    for config in (stage2, twin):
        assert [metric.type for metric in config.test_evaluator] == ['Accuracy', *measured]


def test_published_recipe():
    stage1, stage2, twin = map(load, TRIOS[0])
    for config, lr, last, decay, epochs in (
        (stage1, 1e-3, 0, 1e-4, 500),
        (stage2, 0.1, 0.1 * 0.2**3, 0, 100),
        (twin, 0.01, 0.01 * 0.2**3, 1e-4, 100),
    ):
        optimizer = config.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.momentum) == ('SGD', 0.9)
        assert (optimizer.lr, optimizer.weight_decay) == (lr, decay)
        assert config.param_scheduler.type == 'CosineAnnealingLR'
        assert config.param_scheduler.eta_min == pytest.approx(last)
        assert config.train_cfg.max_epochs == epochs
    assert stage1.model.loss.temperature == 0.1


def changed_by_a_step(config, jpegs):
    """Whether each parameter has changed."""
    model = build_model(config).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    before = {name: p.clone() for name, p in model.named_parameters()}
    data = run_pipeline(config.train_dataloader, jpegs, labels=[3, 7])
    assert torch.isfinite(model.train_step(data, optimizer)['loss'])
    return {name: not torch.equal(p, before[name]) for name, p in model.named_parameters()}


@pytest.mark.parametrize('trio', [CIFAR, FILES, MINI], ids=['cifar', 'files', 'mini'])
def test_a_step(trio, jpegs):
    """Stage 1 trains the encoder; stage 2 the head alone."""
    for name, part in zip(trio, ('neck', 'head')):
        changed = changed_by_a_step(load(name), jpegs)
        assert any(value for key, value in changed.items() if key.startswith(part))
        encoder = [value for key, value in changed.items() if key.startswith('backbone')]
        assert not any(encoder) if 'stage2' in name else sum(encoder) > 0.8 * len(encoder)


@pytest.mark.parametrize('name', [FILES[1], MINI[1]])
def test_a_frozen_encoder_is_not_disturbed(name):
    """In train mode, which is how the host trains, too."""
    model = build_model(load(name))
    image = torch.rand(8, 3, *model.backbone.img_size)
    with torch.no_grad():
        trained = model.train().extract_feat(image)[0]
        assert torch.equal(trained, model.eval().extract_feat(image)[0])


def test_fine_tuning_is_a_switch(jpegs):
    config = load(CIFAR[1])
    config.merge_from_dict({'model.backbone.frozen_stages': -1})
    config.model.backbone.pop('frozen_stages')
    assert changed_by_a_step(config, jpegs)['backbone.layers.0.attn.qkv.weight']


@pytest.mark.parametrize('name, size', [(CIFAR[0], 224), (FILES[0], 224), (MINI[0], 32)])
def test_two_views(name, size, jpegs):
    config = load(name)
    loader = config.train_dataloader
    first, second = run_pipeline(loader, jpegs, [1, 1])['inputs']
    assert first.shape == second.shape == (2, 3, size, size)
    assert not torch.equal(first, second)
    # Greyscale weighs the channels in the order in which they come.
    (jitter,) = [step for step in loader.dataset.pipeline if step.type == 'MultiView']
    weights = jitter.transforms[0][3].channel_weights
    green_between = (weights[0] > weights[2]) == (not config.data_preprocessor.to_rgb)
    assert green_between and weights[1] == max(weights)
