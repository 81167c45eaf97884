import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

import mmtlalign
from mmtlalign.errors import UserError
from mmtlalign.resources import ROOT

NAME = 'tlalign_deit-digits_1xb32_digits'
PATH = f'configs/classification/tlalign/{NAME}.py'


@pytest.fixture
def config():
    """Path of a small classifier's config; also works from elsewhere."""
    return str(ROOT / PATH)


@pytest.fixture
def checkpoint(tmp_path, config):
    """Of that classifier, with other weights than it gets by itself."""
    torch.manual_seed(5)
    path = tmp_path / 'a.pth'
    torch.save(
        dict(
            state_dict=mmtlalign.get_model(config).state_dict(),
            meta=dict(dataset_meta=dict(classes=('a', 'b'))),
        ),
        path,
    )
    torch.manual_seed(6)
    return path


def equal(model, path):
    state = torch.load(path)['state_dict']
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_model_is_built_by_name_path_or_config(config, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = Config.fromfile(config)
    before = given.to_dict()
    for model in (NAME, config, given):
        built = mmtlalign.get_model(model, pretrained=str(checkpoint))
        assert type(built).__name__ == 'TLAlignClassifier'
        assert not built.training
        assert equal(built, checkpoint)
        assert built.dataset_meta == dict(classes=('a', 'b'))
        assert not equal(mmtlalign.get_model(model), checkpoint)
    assert given.to_dict() == before
    images = torch.rand(2, 3, 32, 32)
    assert built(images).shape == (2, 10)  # classes


def test_an_empty_name_is_not_random_weights(config):
    with pytest.raises(UserError, match="pretrained='' names no checkpoint"):
        mmtlalign.get_model(config, pretrained='')


def test_the_device_is_the_asked_one(config):
    if torch.cuda.is_available():
        model = mmtlalign.get_model(config, device='cuda')
        assert next(model.parameters()).is_cuda
    model = mmtlalign.get_model(config, device=torch.device('cpu'))
    assert next(model.parameters()).device.type == 'cpu'


def test_pretrained_is_load_from_or_what_is_published(config, checkpoint):
    given = Config.fromfile(config)
    given.load_from = str(checkpoint)
    published = mmtlalign.get_model(NAME, pretrained=True).state_dict()
    found = mmtlalign.get_model(given, pretrained=True).state_dict()
    assert all(torch.equal(found[key], published[key]) for key in found)
    given = Config(given.to_dict())  # without a name, so nobody published it
    assert equal(mmtlalign.get_model(given, pretrained=True), checkpoint)
    given.load_from = None
    with pytest.raises(UserError, match='no weights are published'):
        mmtlalign.get_model(given, pretrained=True)


@pytest.mark.parametrize(
    'model, complaint',
    [
        ('tlalign_deit-digit_1xb32_digits', f"that come along.*'{NAME}'"),
        ('gone.py', "config 'gone.py' does not exist"),
    ],
)
def test_an_unknown_model_is_named(model, complaint):
    with pytest.raises(UserError, match=complaint):
        mmtlalign.get_model(model)


def test_an_unknown_device_is_named():
    with pytest.raises(
        UserError,
        match=r"device 'foo' cannot be used \(.*"
        'device string: foo.*; choose cpu',
    ):
        mmtlalign.get_model(NAME, device='foo')


def test_weights_of_another_model_are_refused(config, checkpoint):
    given = Config.fromfile(config)
    given.model.backbone.arch.num_layers += 1
    with pytest.raises(UserError, match='does not fit.*12 keys missing'):
        mmtlalign.get_model(given, checkpoint)


def test_the_package_itself_stays_light():
    code = (
        'import sys, mmtlalign; assert "mmtlalign.apis" not in sys.modules; assert not '
        'hasattr(mmtlalign, "nothing"); mmtlalign.get_model; assert "mmtlalign.apis" in '
        'sys.modules'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
