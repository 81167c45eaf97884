import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

import mmtlalign
from mmtlalign.errors import UserError
from mmtlalign.resources import ROOT

NAME = 'tlalign_deit-digits_1xb32_digits'


CONFIG = str(ROOT / f'configs/classification/tlalign/{NAME}.py')  # from anywhere


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Of that classifier, with other weights than it gets by itself."""
    path = tmp_path_factory.mktemp('model') / 'a.pth'
    torch.manual_seed(5)
    state = mmtlalign.get_model(CONFIG).state_dict()
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=('a', 'b')))), path)
    return path


def equal(model, path):
    state = torch.load(path)['state_dict']
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_model_is_built_by_name_path_or_config(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = Config.fromfile(CONFIG)
    before = given.to_dict()
    for model in (NAME, CONFIG, given):
        built = mmtlalign.get_model(model, pretrained=str(checkpoint), device=torch.device('cpu'))
        assert type(built).__name__ == 'TLAlignClassifier'
        assert not built.training
        assert equal(built, checkpoint)
        assert built.dataset_meta == dict(classes=('a', 'b'))
    assert not equal(mmtlalign.get_model(given), checkpoint)
    assert given.to_dict() == before
    images = torch.rand(2, 3, 32, 32)
    assert built(images).shape == (2, 10)  # classes


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_the_device_is_the_asked_one():
    assert next(mmtlalign.get_model(CONFIG, device='cuda').parameters()).is_cuda


def test_pretrained_is_load_from_or_what_is_published(checkpoint):
    given = Config.fromfile(CONFIG)
    given.load_from = str(checkpoint)
    published = mmtlalign.get_model(NAME, pretrained=True).state_dict()
    found = mmtlalign.get_model(given, pretrained=True).state_dict()
    assert all(torch.equal(found[key], published[key]) for key in found)
    given = Config(given.to_dict())  # without a name, so nobody published it
    assert equal(mmtlalign.get_model(given, pretrained=True), checkpoint)
    given.load_from = None
    with pytest.raises(UserError, match='no weights are published'):
        mmtlalign.get_model(given, pretrained=True)


def test_mistakes(checkpoint):
    deeper = Config.fromfile(CONFIG)
    deeper.model.backbone.arch.num_layers += 1
    for model, arguments, complaint in (
        ('tlalign_deit-digit_1xb32_digits', {}, f"that come along.*'{NAME}'"),
        ('gone.py', {}, "config 'gone.py' does not exist"),
        (NAME, dict(pretrained=''), "pretrained='' names no checkpoint"),
        (NAME, dict(device='foo'), r"device 'foo' cannot be used \(.*string: foo.*; choose cpu"),
        (deeper, dict(pretrained=checkpoint), 'does not fit.*12 keys missing'),
    ):
        with pytest.raises(UserError, match=complaint):
            mmtlalign.get_model(model, **arguments)


def test_the_package_itself_stays_light():
    code = (
        'import sys, mmtlalign; assert "mmtlalign.apis" not in sys.modules; '
        'assert not hasattr(mmtlalign, "nothing")'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
