"""Every detection config is loaded and built, one of each family is run."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmtlalign.commands.checks import check_heads

from ..conftest import needs_operators
from .conftest import check_dense_optimizer, present, read, stem, tracked

needs_operators()
demo_mm_inputs = pytest.importorskip('mmdet.testing').demo_mm_inputs
mmdet_registry = pytest.importorskip('mmdet.registry')

CLASSIFIERS = 'configs/classification/tlalign'
CONFIGS = tracked('configs/detection')
COCO = [path for path in CONFIGS if path.endswith('_coco.py')]
CELLS = [path for path in CONFIGS if path.endswith('_bccd.py')]


def test_lists_are_complete():
    assert set(CONFIGS) == present('configs/detection')
    assert {stem(path) for path in COCO} == {
        name.format(size) + '_coco'
        for size in ('tiny', 'small', 'base')
        for name in (
            'mask-rcnn_tlalign-swin-{}_fpn_8xb2-1x',
            'mask-rcnn_tlalign-swin-{}_fpn_8xb2-ms-crop-3x',
            'cascade-mask-rcnn_tlalign-swin-{}_fpn_8xb2-ms-crop-3x',
            'mask-rcnn_tlalign-deit-{}_sfp_8xb2-ms-crop-3x',
        )
    }
    assert len(CELLS) == 2


def classifier_of(backbone):
    """Config that trains a backbone's checkpoint, and the file's name."""
    *_, folder, file = Path(backbone.init_cfg.checkpoint).parts
    return read(f'{CLASSIFIERS}/{folder}.py'), file


def shorten(backbone):
    """Two blocks per stage, or two in all, of the same width."""
    arch = backbone.arch
    if isinstance(arch, str):
        arch = MODELS.get(backbone.type).arch_zoo[arch]
    depth = dict(depths=[2] * len(arch['depths'])) if 'depths' in arch else dict(num_layers=2)
    backbone.arch = {**arch, **depth}


def as_list(one_or_several):
    """A cascade has lists where others have a single head or sampler."""
    several = isinstance(one_or_several, (list, nn.ModuleList))
    return one_or_several if several else [one_or_several]


def slim(model):
    """Fewer regions and narrower box heads."""
    for stage in as_list(model.train_cfg.rcnn):
        stage.sampler.num = 8
    model.train_cfg.rpn_proposal.max_per_img = 20
    model.test_cfg.rpn.max_per_img = 20
    for head in as_list(model.roi_head.bbox_head):
        head.fc_out_channels = 16


def build(config):
    """The detector, two blocks deep."""
    shorten(config.model.backbone)
    slim(config.model)
    return MODELS.build(config.model)


# Everything but the model -----------------------------------------------


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_starts_from_the_named_classifier(path, load):
    """The weights exist after training, and their backbone is the same."""
    config = load(path)
    backbone = config.model.backbone
    init_cfg = dict(backbone.init_cfg)
    checkpoint = init_cfg.pop('checkpoint')
    assert init_cfg == dict(type='Pretrained', prefix='backbone.')
    assert checkpoint.startswith('work_dirs/tlalign_')
    classifier, file = classifier_of(backbone)
    assert file == f'epoch_{classifier.train_cfg.max_epochs}.pth'
    twin = Path(checkpoint.replace('tlalign_', 'cutmix_')).parent.name
    assert f'{CLASSIFIERS}/{twin}.py' in tracked(CLASSIFIERS)

    original = dict(classifier.model.backbone)
    assert backbone.type == f'mmpretrain.{original.pop("type")}'
    if path in COCO:  # small in the name is a small backbone
        size = original['arch'].removeprefix('deit-')
        assert re.search(rf'_tlalign-(deit|swin)-{size}_', path)
    for key in ('out_indices', 'drop_path_rate'):
        original.pop(key, None)
    defaults = dict(img_size=224, patch_size=4)  # those of Swin
    assert {key: backbone.get(key, defaults.get(key)) for key in original} == original
    preprocessor = config.model.data_preprocessor
    for key in ('mean', 'std'):
        assert preprocessor[key] == classifier.data_preprocessor[key]
    assert (
        preprocessor.bgr_to_rgb == classifier.data_preprocessor.get('to_rgb')
        or len({*preprocessor.mean}) == 1
    )  # of grey images


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_data_and_hooks(path, load):
    config = load(path)
    assert config.default_scope == 'mmdet'
    for phase in ('train', 'val', 'test'):
        dataset = config[f'{phase}_dataloader'].dataset
        cls = mmdet_registry.DATASETS.get(dataset.type)
        names = dataset.get('metainfo', cls.METAINFO)['classes']
        check_heads(config, names, phase)
        for step in dataset.pipeline:
            mmdet_registry.TRANSFORMS.build(step)
        if phase != 'train':
            root, file = dataset.data_root, dataset.ann_file
            evaluator = config[f'{phase}_evaluator']
            assert Path(evaluator.ann_file) == Path(root) / file
    assert [hook.type for hook in config.custom_hooks] == ['mmtlalign.ResumeRandomState']
    loader = config.train_dataloader
    devices, batch = map(int, re.search(r'_(\d+)xb(\d+)', path).groups())
    assert loader.batch_size == batch
    assert config.auto_scale_lr.base_batch_size == devices * batch
    if path not in COCO:  # what bit-identical resuming needs
        assert loader.num_workers == 0


@pytest.mark.parametrize('path', COCO + CELLS, ids=stem)
def test_schedule(path, load):
    config = load(path)
    epochs = config.train_cfg.max_epochs
    warm_up, steps = config.param_scheduler
    assert steps.end == epochs
    assert all(epochs / 2 < step < epochs for step in steps.milestones)
    assert warm_up.end <= 500 and not warm_up.by_epoch
    if path in COCO:
        assert epochs == (12 if '-1x_' in path else 36)
        assert list(steps.milestones) == ([8, 11] if epochs == 12 else [27, 33])
        assert config.optim_wrapper.optimizer.lr == 1e-4
    else:
        assert epochs % config.train_cfg.val_interval == 0


def test_drop_paths(load):
    """Those of Swin's and ViT-Adapter's recipes."""
    found = {
        re.search(r'(.*)_tlalign-([a-z]+-[a-z]+)_.*-(\dx)', stem(path)).groups(): load(
            path
        ).model.backbone.drop_path_rate
        for path in COCO
    }
    assert found == {
        ('mask-rcnn', 'swin-tiny', '1x'): 0.1,
        ('mask-rcnn', 'swin-small', '1x'): 0.2,
        ('mask-rcnn', 'swin-base', '1x'): 0.3,
        **{
            (kind, f'swin-{size}', '3x'): rate
            for kind in ('mask-rcnn', 'cascade-mask-rcnn')
            for size, rate in (('tiny', 0.2), ('small', 0.2), ('base', 0.3))
        },
        **{('mask-rcnn', f'deit-{size}', '3x'): 0.1 for size in ('tiny', 'small', 'base')},
    }


# The model ----------------------------------------------------------------


@pytest.mark.parametrize('path', CONFIGS, ids=stem)
def test_builds_and_maps_fit_the_anchors(path, load):
    config = load(path)
    model = build(config).eval()
    check_optimizer(model, config.optim_wrapper)
    strides = config.model.rpn_head.anchor_generator.strides
    patch = config.model.backbone.get('patch_size', 4)
    assert strides[0] == {2: 2, 4: 2 if 'deit' in path else 4, 16: 4}[patch]
    with torch.no_grad():
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


def check_optimizer(model, optim_wrapper):
    """Rate and decay of every parameter, found from the modules."""
    decay_rate = optim_wrapper.paramwise_cfg.get('layer_decay_rate', 1)
    assert decay_rate == (0.7 if 'LayerDecay' in optim_wrapper.get('constructor', '') else 1)

    def scale(name):
        block = re.match(r'backbone\.layers\.(\d+)\.', name)
        stem = re.match(r'backbone\.(cls_token|pos_embed|patch_embed)', name)
        return decay_rate ** (2 - int(block[1]) if block else 3 if stem else 0)

    check_dense_optimizer(model, optim_wrapper, scale)


# A step and a prediction --------------------------------------------------


def narrow(model):
    """Make the published detectors narrow; minis stay as they are."""
    arch = (
        dict(embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8])
        if 'Swin' in model.backbone.type
        else dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    )
    model.backbone.arch = arch
    model.neck.in_channels = [16, 32, 64, 128] if 'depths' in arch else 32
    model.neck.out_channels = 16
    model.rpn_head.update(in_channels=16, feat_channels=16)
    for head in as_list(model.roi_head.bbox_head):
        head.in_channels = 16
        if 'conv_out_channels' in head:
            head.conv_out_channels = 16
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.mask_roi_extractor.out_channels = 16
    model.roi_head.mask_head.update(in_channels=16, conv_out_channels=16)


def save_classifier(config, backbone, path):
    """Save what training a classifier with this backbone would leave."""
    model = Config(dict(model=config.model)).model
    model.backbone.arch = backbone.arch
    width = backbone.arch.get('embed_dims')
    if 'depths' in backbone.arch:
        width *= 2 ** (len(backbone.arch['depths']) - 1)
    model.head.in_channels = width
    model.data_preprocessor = config.data_preprocessor
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(model)
    classifier.init_weights()
    torch.save(dict(state_dict=classifier.state_dict(), meta={}), path)
    return classifier.backbone.state_dict()


FAMILIES = [
    'mask-rcnn_tlalign-swin-tiny_fpn_8xb2-1x_coco',
    'cascade-mask-rcnn_tlalign-swin-tiny_fpn_8xb2-ms-crop-3x_coco',
    'mask-rcnn_tlalign-deit-small_sfp_8xb2-ms-crop-3x_coco',
    'faster-rcnn_tlalign-swin-mini_fpn_1xb2_bccd',
    'faster-rcnn_tlalign-deit-mini_sfp_1xb2_bccd',
]


@pytest.mark.parametrize('name', FAMILIES)
def test_step_and_prediction(name, load, tmp_path):
    (path,) = [path for path in CONFIGS if stem(path) == name]
    config = load(path)
    model = config.model
    slim(model)
    if path in COCO:
        narrow(model)
    classifier, _ = classifier_of(model.backbone)
    checkpoint = str(tmp_path / 'classifier.pth')
    saved = save_classifier(classifier, model.backbone, checkpoint)
    model.backbone.init_cfg.checkpoint = checkpoint

    detector = MODELS.build(model)
    detector.init_weights()
    loaded = detector.backbone.state_dict()
    stages = len(model.backbone.arch.get('depths', []))
    new = {f'norm{i}.{kind}' for i in range(stages - 1) for kind in ('weight', 'bias')}
    assert loaded.keys() - saved.keys() == new
    assert saved.keys() <= loaded.keys() and len(saved) > 20
    for key in saved:
        assert torch.equal(loaded[key], saved[key]), key

    before = {key: value.clone() for key, value in loaded.items()}
    with_mask = 'mask_head' in model.roi_head
    num_classes = 80 if path in COCO else 3
    optimizer = build_optim_wrapper(detector, config.optim_wrapper)
    data = demo_mm_inputs(
        2, [(3, 64, 96)] * 2, num_items=[2, 1], num_classes=num_classes, with_mask=with_mask
    )
    log = detector.train().train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    assert any('mask' in key for key in log) == with_mask
    key = 'patch_embed.projection.weight'
    assert not torch.equal(detector.backbone.state_dict()[key], before[key])

    check_prediction(detector, data, with_mask, num_classes)


def check_prediction(detector, data, with_mask, num_classes):
    """Boxes lie in the image, best first; masks have its size."""
    detector.test_cfg.rcnn.score_thr = 0.0
    detector.roi_head.test_cfg.score_thr = 0.0
    with torch.no_grad():
        results = detector.eval().test_step(data)
    assert len(results) == 2
    for result in results:
        height, width = result.ori_shape[:2]
        found = result.pred_instances
        assert len(found) > 0
        scores = found.scores
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert found.labels.min() >= 0 and found.labels.max() < num_classes
        limits = torch.tensor([width, height] * 2) + 1e-3
        assert (found.bboxes >= 0).all() and (found.bboxes <= limits).all()
        assert ('masks' in found) == with_mask
        if with_mask:
            assert found.masks.shape == (len(found), height, width)
