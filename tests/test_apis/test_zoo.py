"""Finding published weights: a repository of one model, and the real one."""

import hashlib
import json

import pytest
import torch
from mmengine.fileio import dump
from mmengine.runner.checkpoint import load_checkpoint
from safetensors.torch import save_file

import mmtlalign
from mmtlalign.apis import zoo
from mmtlalign.checkpoint import load_checkpoint_safely
from mmtlalign.errors import UserError
from mmtlalign.resources import find_config
from tests.tiny import run_tool

from ..conftest import needs_operators

NAME = 'tlalign_deit-digits_1xb32_digits'


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Published weights of the digits' DeiT; returns their path."""
    torch.manual_seed(5)
    state = mmtlalign.get_model(NAME).state_dict()
    draft = tmp_path / 'draft'
    save_file(
        {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        draft,
        dict(meta=json.dumps(dict(dataset_meta=dict(classes=['zero', 'one']), seed=0))),
    )
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()[:8]
    path = tmp_path / f'zoo/{NAME}_20260101-{digest}.safetensors'
    path.parent.mkdir()
    draft.rename(path)
    dump(dict(Import=['configs/metafile.yml']), tmp_path / 'model-index.yml')
    (tmp_path / 'configs').mkdir()
    dump(
        dict(
            Models=[
                dict(Name=NAME, Weights=f'zoo/{path.name}'),
                dict(Name='far', Weights='https://example.org/far-01234567.pth'),
                dict(Name='untrained'),
            ]
        ),
        tmp_path / 'configs/metafile.yml',
    )
    monkeypatch.setattr(zoo, 'ROOT', tmp_path)
    return path


def test_published_weights_are_found_and_loaded(weights):
    assert mmtlalign.list_models(pretrained=True) == ['far', NAME]
    assert mmtlalign.list_models('*deit*', pretrained=True) == [NAME]
    model = mmtlalign.get_model(NAME, pretrained=True)
    torch.manual_seed(5)
    expected = mmtlalign.get_model(NAME).state_dict()
    for key, value in model.state_dict().items():
        assert value.dtype == expected[key].dtype
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-7)
    assert model.dataset_meta == dict(classes=['zero', 'one'])
    # by path and by config as well
    for given in (model.cfg, model.cfg.filename):
        again = mmtlalign.get_model(given, pretrained=True)
        assert torch.equal(again.head.layers.head.weight, model.head.layers.head.weight)


def test_the_hosts_loader_reads_it_too(weights):
    model = mmtlalign.get_model(NAME)
    checkpoint = load_checkpoint(model, str(weights), strict=True)
    assert checkpoint['meta']['seed'] == 0
    read = load_checkpoint_safely(str(weights))
    assert torch.equal(
        read['state_dict']['backbone.cls_token'], checkpoint['state_dict']['backbone.cls_token']
    )


def test_damaged_and_absent_weights_are_named(weights):
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        UserError,
        match=r'is damaged: its name says .* and it '
        r'begins with [0-9a-f]{8}; get it again',
    ):
        mmtlalign.get_model(NAME, pretrained=True)
    with pytest.raises(UserError, match='or rename it if it is yours'):
        load_checkpoint_safely(str(weights))  # which all tools do
    yours = weights.rename(weights.with_name('yours.safetensors'))
    load_checkpoint_safely(str(yours))
    yours.unlink()
    with pytest.raises(UserError, match='not in installed packages'):
        mmtlalign.get_model(NAME, pretrained=True)
    yours.write_bytes(b'no safetensors')
    with pytest.raises(UserError, match=r'cannot be read .* is damaged or no'):
        load_checkpoint_safely(str(yours))


def test_an_untrained_model_is_named(weights):
    with pytest.raises(UserError, match="published for 'tlalign_swin-mini"):
        mmtlalign.get_model('tlalign_swin-mini_1xb32_digits', pretrained=True)


def test_all_models_have_configs():
    names = mmtlalign.list_models()
    assert len(names) == len(set(names)) > 100
    assert set(mmtlalign.list_models(pretrained=True)) <= set(names)
    for name in mmtlalign.list_models(pretrained=True):
        assert find_config(name)


@pytest.mark.parametrize(
    'name', [name for name in mmtlalign.list_models(pretrained=True) if name.endswith('_digits')]
)
def test_16_bits_keep_the_figure(name, tmp_path):
    """Measured again where the data come with scikit-learn."""
    weights = zoo.find_weights(name)
    done = run_tool('test.py', name, weights, '--work-dir', tmp_path, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = tmp_path.glob('*/*.json')
    recorded = load_checkpoint_safely(weights)['meta']['metrics']
    for key in 'accuracy/top1', 'accuracy/top5':
        assert json.loads(found.read_text())[key] == pytest.approx(recorded[key], abs=0.1)


@pytest.mark.parametrize('name', mmtlalign.list_models(pretrained=True))
def test_the_zoos_weights_fit_their_models(name):
    if 'configs/classification' not in find_config(name):
        needs_operators()
    model = mmtlalign.get_model(name, pretrained=True)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    meta = load_checkpoint_safely(zoo.find_weights(name))['meta']
    assert meta['seed'] == 0 and meta['metrics']
    assert model.dataset_meta['classes'] == meta['dataset_meta']['classes']
