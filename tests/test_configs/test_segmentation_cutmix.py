"""The arms of CutMix for segmentation differ in mixing and labels only."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from ..conftest import needs_operators
from .conftest import ROOT

needs_operators()

from mmseg.registry import MODELS, TRANSFORMS  # noqa: E402

FOLDER = ROOT / 'configs/segmentation/cutmix'
ARMS = ('none', 'cutmix', 'aligned-cutmix')
NETS = {
    'swin-mini_upernet_1xb4-600_camvid-240x180': ((240, 180), (120, 160)),
    'deit-mini_upernet_1xb4-600_camvid-120x90': ((120, 90), (88, 120)),
}


@pytest.fixture
def load():
    """Load configs in the host's scope, as the tools do."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield lambda arm, net: Config.fromfile(FOLDER / f'{arm}_{net}.py')


def test_list_is_complete():
    assert {path.stem for path in FOLDER.glob('*.py')} == {
        f'{arm}_{net}' for arm in ARMS for net in NETS
    }


@pytest.mark.parametrize('net', NETS)
def test_arms_differ_in_mixing_and_labels_only(net, load):
    configs = {arm: load(arm, net).to_dict() for arm in ARMS}
    mixing = {}
    for arm, config in configs.items():
        preprocessor = config['model']['data_preprocessor']
        mixing[arm] = (
            config['model'].pop('type'),
            config['model'].pop('target', None),
            preprocessor.pop('type'),
            preprocessor.pop('batch_augments', None),
        )
    assert configs['none'] == configs['cutmix'] == configs['aligned-cutmix']
    assert mixing['none'] == ('EncoderDecoder', None, 'SegDataPreProcessor', None)
    backbone = configs['none']['model']['backbone']
    mixed = dict(
        probs=[0.5],
        augments=[dict(type='mmtlalign.TokenCutMix', patch_size=backbone['patch_size'])],
    )
    ours = 'mmtlalign.MixSegDataPreProcessor'
    assert mixing['cutmix'] == ('EncoderDecoder', None, ours, mixed)
    assert mixing['aligned-cutmix'] == (
        'mmtlalign.TLAlignEncoderDecoder',
        dict(type='mmtlalign.AlignedTokenTarget'),
        ours,
        mixed,
    )


@pytest.mark.parametrize('net', NETS)
def test_arms_of_a_seed_start_alike_and_draw_the_same_boxes(net, load):
    states, boxes = [], []
    for arm in ARMS:
        config = load(arm, net)
        config.model.backbone.init_cfg = None
        torch.manual_seed(3)
        model = MODELS.build(config.model)
        model.init_weights()
        states.append(model.state_dict())
        if arm != 'none':
            model.data_preprocessor.mixing.seed(5)
            boxes.append(
                [model.data_preprocessor.mixing.draw(torch.zeros(4, 3, 88, 120)) for _ in range(4)]
            )
    for state in states[1:]:
        torch.testing.assert_close(state, states[0], rtol=0, atol=0)
    for ours, theirs in zip(*boxes):
        assert torch.equal(ours.token_share, theirs.token_share)


@pytest.fixture
def photo(tmp_path):
    """An image of 480x360 px and its label map, with pixels to ignore."""
    rng = np.random.default_rng(0)
    image, labels = tmp_path / 'photo.jpg', tmp_path / 'photo.png'
    cv2.imwrite(str(image), rng.integers(0, 256, (360, 480, 3), np.uint8))
    cells = rng.integers(0, 12, (6, 8), np.uint8)
    cells[cells == 11] = 255
    cv2.imwrite(str(labels), np.kron(cells, np.ones((60, 60), np.uint8)))
    return dict(
        img_path=str(image), seg_map_path=str(labels), label_map=None, reduce_zero_label=False
    )


def run_pipeline(loader, info, copies):
    pipeline = Compose([TRANSFORMS.build(step) for step in loader.dataset.pipeline])
    return pseudo_collate([pipeline({**info, 'seg_fields': []}) for _ in range(copies)])


@pytest.mark.parametrize('net', NETS)
@pytest.mark.parametrize('arm', ARMS)
def test_step_and_prediction(arm, net, load, photo):
    config = load(arm, net)
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    model.init_weights()
    if arm != 'none':
        model.data_preprocessor.mixing.probs = [1.0]
    optimizer = build_optim_wrapper(model.train(), config.optim_wrapper)
    size, crop = NETS[net]
    data = run_pipeline(config.train_dataloader, photo, copies=4)
    assert {tuple(image.shape) for image in data['inputs']} == {(3, *crop)}
    before = model.decode_head.conv_seg.weight.clone()
    log = model.train_step(data, optimizer)
    assert torch.isfinite(log['loss'])
    assert ('aligned_share' in log) == (arm == 'aligned-cutmix')
    assert not torch.equal(before, model.decode_head.conv_seg.weight)
    data = run_pipeline(config.val_dataloader, photo, copies=1)
    with torch.no_grad():
        (sample,) = model.eval().val_step(data)
    assert sample.pred_sem_seg.shape == (360, 480)
