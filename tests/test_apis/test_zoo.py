"""Finding published weights: a repository of one model, and the real one."""

import hashlib
import json

import pytest
import torch
from mmengine.fileio import dump
from mmengine.registry import METRICS, DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from safetensors.torch import save

import mmtlalign
from mmtlalign.apis import zoo
from mmtlalign.checkpoint import load_checkpoint_safely
from mmtlalign.errors import UserError
from mmtlalign.resources import find_config

from ..conftest import needs_operators

NAME = 'tlalign_deit-digits_1xb32_digits'
PUBLISHED = mmtlalign.list_models(pretrained=True)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Published weights of the digits' DeiT; returns their path."""
    torch.manual_seed(5)
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in mmtlalign.get_model(NAME).state_dict().items()
    }
    data = save(state, dict(meta=json.dumps(dict(dataset_meta=dict(classes=['zero', 'one'])))))
    digest = hashlib.sha256(data).hexdigest()[:8]
    path = tmp_path / f'zoo/{NAME}_20260101-{digest}.safetensors'
    path.parent.mkdir()
    path.write_bytes(data)
    dump(dict(Import=['metafile.yml']), tmp_path / 'model-index.yml')
    models = [
        dict(Name=NAME, Weights=f'zoo/{path.name}'),
        dict(Name='far', Weights='https://example.org/far-01234567.pth'),
        dict(Name='untrained'),
    ]
    dump(dict(Models=models), tmp_path / 'metafile.yml')
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
    # the host's loader reads it, too
    read = load_checkpoint_safely(str(weights))
    checkpoint = load_checkpoint(model, str(weights), strict=True)
    assert checkpoint['meta']['dataset_meta'] == dict(classes=['zero', 'one'])
    torch.testing.assert_close(dict(read['state_dict']), dict(checkpoint['state_dict']))


def test_damaged_and_absent_weights_are_named(weights):
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    message = r'is damaged: its name says .* and it begins with [0-9a-f]{8}; get it again'
    with pytest.raises(UserError, match=message):
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
    with pytest.raises(UserError, match="published for 'tlalign_swin-mini"):
        mmtlalign.get_model('tlalign_swin-mini_1xb32_digits', pretrained=True)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize('name', [name for name in PUBLISHED if name.endswith('_digits')])
def test_16_bits_keep_the_figure(name):
    """Measured again where the data come with scikit-learn."""
    recorded = load_checkpoint_safely(zoo.find_weights(name))['meta']['metrics']
    model = mmtlalign.get_model(name, pretrained=True)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = Runner.build_dataloader(model.cfg.test_dataloader)
        metric = METRICS.build(model.cfg.test_evaluator)
        for batch in loader:
            metric.process(batch, [sample.to_dict() for sample in model.test_step(batch)])
    found = metric.evaluate(len(loader.dataset))
    for key in 'accuracy/top1', 'accuracy/top5':
        assert found[key] == pytest.approx(recorded[key], abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize('name', PUBLISHED)
def test_the_zoos_weights_fit_their_models(name):
    if 'configs/classification' not in find_config(name):
        needs_operators()
    model = mmtlalign.get_model(name, pretrained=True)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    meta = load_checkpoint_safely(zoo.find_weights(name))['meta']
    assert meta['seed'] == (200 if 'planted' in name else 0) and meta['metrics']
    assert model.dataset_meta['classes'] == meta['dataset_meta']['classes']
