"""Weights arrive, or training does not start."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.model.weight_init import PretrainedInit
from mmpretrain.registry import MODELS
from torch.utils.data import DataLoader

from mmtlalign.checkpoint import find_pretrained
from mmtlalign.engine import VerifyPretrained
from mmtlalign.errors import UserError

from ..toy import SWIN, VIT, runner

DISTILLED = dict(VIT, type='mmpretrain.DistilledVisionTransformer')


class Toy(BaseModel):
    """A backbone and a loss."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=sum(f.mean() for f in self.backbone(inputs)))


def pretrained(path, backbone, spoil=lambda state: None, **changes):
    """Write a classifier's checkpoint; the config of one that starts there."""
    torch.manual_seed(7)
    state = {
        f'backbone.{key}': torch.randn_like(value) if value.is_floating_point() else value
        for key, value in MODELS.build(backbone).state_dict().items()
    }
    state['head.fc.weight'] = torch.zeros(3, 8)
    spoil(state)
    torch.save(dict(state_dict=state, ema_state_dict=dict(state)), path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    return dict(backbone, **changes, init_cfg=init_cfg)


class Watch(Hook):
    """Keep the weights of the first step."""

    def before_train_iter(self, runner, *args, **kwargs):
        self.weights = copy.deepcopy(runner.model.backbone.state_dict())


def train(folder, backbone, *hooks, **options):
    """One step; return the weights before it and the log."""
    watch = Watch()
    size = backbone['img_size']
    run = runner(
        folder / 'work',
        Toy(ConfigDict(backbone)),
        [VerifyPretrained(), *hooks, watch],
        train_dataloader=DataLoader([dict(inputs=torch.rand(3, size, size))]),
        train_cfg=dict(by_epoch=False, max_iters=1),
        **options,
    )
    run.train()
    (log,) = folder.glob('work/*/*.log')
    return watch.weights, log.read_text()


def refused(backbone, said):
    """What is said before any training."""
    with pytest.raises(UserError, match=said) as error:
        VerifyPretrained().before_run(SimpleNamespace(model=Toy(ConfigDict(backbone))))
    assert '\n' not in str(error.value)
    return str(error.value)


PYRAMID = dict(out_indices=(0, 1, 2), pad_small_map=True, with_cp=True)


@pytest.mark.parametrize(
    'source, changes, new, unused',
    [
        (VIT, dict(out_type='featmap', out_indices=(0, 2)), [], []),
        (VIT, dict(out_type='featmap', final_norm=False), [], ['ln1']),
        (VIT, dict(out_type='avg_featmap'), ['ln2.weight', 'ln2.bias'], []),
        (dict(VIT, out_type='avg_featmap'), dict(out_type='featmap'), [], ['ln2']),
        (DISTILLED, dict(out_type='featmap'), [], []),
        (SWIN, {}, [], []),
        (SWIN, PYRAMID, ['norm0.weight', 'norm1.bias'], []),
        (SWIN, dict(out_indices=(0, 1)), ['norm0.weight', 'norm1.bias'], ['norm2']),
    ],
)
def test_weights_arrive(tmp_path, source, changes, new, unused):
    backbone = pretrained(tmp_path / 'a.pth', source, **changes)
    weights, log = train(tmp_path, backbone)
    file = torch.load(tmp_path / 'a.pth')['state_dict']
    arrived = [key for key in weights if f'backbone.{key}' in file]
    for key in arrived:
        assert torch.equal(weights[key], file[f'backbone.{key}']), key
    drawn = {name.split('.')[0] for name in new}
    assert {*weights} - {*arrived} == {key for key in weights if key.split('.')[0] in drawn}
    line = next(line for line in log.splitlines() if 'tensors from' in line)
    assert f"Weights of backbone: {len(arrived)} tensors from '" in line
    assert all(key in line for key in new)
    assert ('initialized: ' in line) == bool(new)
    assert 'head (1)' in line
    assert all(f'backbone.{key}' in line for key in unused)
    assert f'verified, {len(arrived)} tensors' in log


def test_nothing_is_compared_with_a_checkpoint_of_the_whole_model(tmp_path):
    backbone = pretrained(tmp_path / 'a.pth', VIT)
    model = Toy(ConfigDict(VIT))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'whole.pth')
    weights, log = train(tmp_path, backbone, load_from=str(tmp_path / 'whole.pth'))
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(weights[key], value), key
    assert 'not compared' in log and 'verified' not in log


def test_a_vit_may_be_resized_by_its_own_rule(tmp_path):
    backbone = pretrained(tmp_path / 'a.pth', VIT, img_size=24)
    weights, _ = train(tmp_path, backbone)
    file = torch.load(tmp_path / 'a.pth')['state_dict']['backbone.pos_embed']
    grid = file[:, 1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(6, 6), mode='bicubic')
    torch.testing.assert_close(weights['pos_embed'][:, 1:], grid.flatten(2).transpose(1, 2))
    assert torch.equal(weights['pos_embed'][:, :1], file[:, :1])


def test_a_sliced_distilled_checkpoint_serves_a_plain_vit(tmp_path):
    def remove_token(state):
        state['backbone.pos_embed'] = state['backbone.pos_embed'][:, 1:]

    path = tmp_path / 'a.pth'
    refused(dict(pretrained(path, DISTILLED), type=VIT['type']), '--drop-distillation')
    backbone = dict(pretrained(path, DISTILLED, remove_token), type=VIT['type'])
    _, log = train(tmp_path / 'second', backbone)
    assert 'not used: backbone.dist_token (1), head (1)' in log


def drop(*keys):
    """Remove weights of a file."""
    return lambda state: [state.pop(f'backbone.{key}') for key in keys]


def add_one(state):
    state['backbone.more'] = torch.zeros(1)


def not_finite(state):
    state['backbone.layers.0.ln1.bias'][0] = torch.nan


def nothing(state):
    pass


WINDOWS = r'windows of 4 and .* SwinTransformer of 2 .*mmtlalign convert FILE OUT --window-size 2'


@pytest.mark.slow
@pytest.mark.parametrize(
    'source, changes, change, complaint',
    [
        (VIT, {}, drop('ln1.bias', 'pos_embed'), r'2 keys missing .*\(first: pos_embed\)'),
        (VIT, {}, add_one, r'1 keys unknown to the model \(first: more\)'),
        (
            VIT,
            dict(arch=dict(VIT['arch'], embed_dims=16)),
            nothing,
            r'model\.backbone \(VisionTransformer\): size mismatch for cls_token',
        ),
        (
            VIT,
            dict(SWIN, patch_size=4, patch_cfg=dict(norm_cfg=None)),
            nothing,
            'keys missing in the file .*keys unknown to the model',
        ),
        (DISTILLED, {}, drop('dist_token'), r'1 keys missing .*\(first: dist_token\)'),
        (SWIN, {}, drop('norm2.weight', 'norm2.bias'), r'lacks all norms .*\(first: norm2\.weight'),
        (VIT, {}, not_finite, 'layers.0.ln1.bias holds values that are not fin'),
        (SWIN, dict(window_size=2), nothing, WINDOWS),
    ],
)
def test_a_misfit_stops_before_training(tmp_path, source, changes, change, complaint):
    backbone = pretrained(tmp_path / 'a.pth', source, change, **changes)
    assert str(tmp_path / 'a.pth') in refused(backbone, complaint)


def test_a_wrong_prefix_is_named_beside_those_of_the_file_and_a_file_that_is_gone(tmp_path):
    backbone = pretrained(tmp_path / 'a.pth', VIT)
    backbone['init_cfg']['prefix'] = 'encoder.'
    said = r"no keys that start with prefix 'encoder\.' \(model\.backbone\.init_cfg\.prefix\)"
    refused(backbone, rf'{said}.*backbone\., head\.')
    (tmp_path / 'a.pth').unlink()
    refused(backbone, r"checkpoint '.*a\.pth' does not ex")


FULL = dict(type='Pretrained', checkpoint='a.pth', prefix='backbone.')


@pytest.mark.parametrize(
    'init_cfg',
    [
        [dict(type='TruncNormal', layer='Linear'), FULL],
        dict(FULL, type=PretrainedInit),
        dict(FULL, type='mmengine.Pretrained'),
        dict(type='Pretrained', checkpoint='a.pth'),
        dict(FULL, checkpoint=''),
        dict(FULL, prefix=''),
        dict(FULL, map_location='cpu'),
    ],
    ids=str,
)
def test_other_forms_are_refused(init_cfg):
    said = r'model\.backbone\.init_cfg=.* is refused: weights are named in one form only'
    with pytest.raises(UserError, match=said):
        find_pretrained(Toy(ConfigDict(VIT, init_cfg=init_cfg)))


class Redraw(Hook):
    """What the host does to position embeddings in some forms."""

    def before_train(self, runner):
        torch.nn.init.normal_(runner.model.backbone.pos_embed)


def test_weights_that_change_after_loading_are_noticed(tmp_path):
    backbone = pretrained(tmp_path / 'a.pth', VIT)
    with pytest.raises(UserError, match='model.backbone: pos_embed is not'):
        train(tmp_path, backbone, Redraw())
