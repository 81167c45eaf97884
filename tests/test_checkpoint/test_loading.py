import os
from functools import partial

import pytest
import torch
from mmengine.fileio import HTTPBackend
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from torch import nn

from mmtlalign.checkpoint import check_checkpoint, hand_to_host, load_checkpoint_safely
from mmtlalign.checkpoint.loading import HOST_LOADERS, UNSAFE, load_from_checked
from mmtlalign.errors import UserError
from projects.reliability.corpus import Call


def saved(path, model, **more):
    """Save as mmengine does; return the path."""
    torch.save(dict(state_dict=model.state_dict(), **more), path)
    return str(path)


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('bare', [True, False])
def test_a_fitting_checkpoint_is_loaded(tmp_path, model, prefix, bare):
    state = {
        f'{prefix}{key}': torch.full_like(value, 2.0) for key, value in model.state_dict().items()
    }
    torch.save(state if bare else dict(state_dict=state), tmp_path / 'a.pth')
    check_checkpoint(model, str(tmp_path / 'a.pth'))
    assert all((value == 2).all() for value in model.state_dict().values())


def of_layers(*sizes):
    """Makes the checkpoint of another model."""
    return lambda state: dict(
        state_dict=nn.Sequential(*(nn.Linear(*n) for n in sizes)).state_dict()
    )


def with_bias(change):
    return lambda state: state | {'1.bias': change(state['1.bias'])}


DTYPES = r'1\.bias holds {} in the file and torch.float32 in the model; give'
DIVERGED = '1.bias holds values that are not finite; its training has diverged'


@pytest.mark.parametrize(
    'content, complaint',
    [
        (of_layers((2, 3)), r'2 keys missing in the file \(first: 1.weight\)'),
        (of_layers((2, 3), (3, 4), (1, 1)), r'2 keys unknown to the model \(first: 2.weight\)'),
        (of_layers((2, 3), (3, 5)), r'size mismatch for 1.weight.*\[5, 3\].*\[4, 3\]'),
        (with_bias(torch.Tensor.long), DTYPES.format('torch.int64')),
        (with_bias(torch.Tensor.bool), DTYPES.format('torch.bool')),
        (with_bias(lambda bias: bias * 1j), DTYPES.format('torch.complex64')),
        (with_bias(lambda bias: bias * torch.nan), DIVERGED),
        (with_bias(lambda bias: bias / 0), DIVERGED),
        # weights must be where OpenMMLab keeps them
        (lambda state: [torch.zeros(1)], 'holds a list, not a dict'),
        (lambda state: dict(state_dict=[]), 'holds a list as its state_dict, not a dict; get'),
        (lambda state: dict(state_dict={}, meta=None), 'holds a NoneType as its meta, not a'),
        (
            lambda state: dict(model=state),
            r"\('model' is no tensor\); convert a release of DeiT or Swin with",
        ),
        (lambda state: {1: torch.zeros(1)}, "'1' is no tensor"),
        (lambda state: {}, 'there are none'),
    ],
)
def test_what_does_not_fit_or_is_no_use_is_refused(tmp_path, model, content, complaint):
    path = str(tmp_path / 'a.pth')
    torch.save(content(model.state_dict()), path)
    with pytest.raises(UserError, match=complaint) as error:
        check_checkpoint(model, path)
    assert path in str(error.value) and '\n' not in str(error.value)


def test_numbers_of_another_precision_are_loaded(tmp_path):
    model = nn.BatchNorm1d(2)  # with a count in integers
    before = {key: value.clone() for key, value in model.state_dict().items()}
    check_checkpoint(model, saved(tmp_path / 'a.pth', model.half()))
    assert all(
        torch.equal(value, model.state_dict()[key].to(value.dtype)) for key, value in before.items()
    )


@pytest.mark.parametrize(
    'path, said',
    [
        ('', 'name of the checkpoint is empty'),
        ('gone.pth', "checkpoint 'gone.pth' does not ex"),
        ('torchvision://resnet50', 'neither a file nor a web address'),
    ],
)
def test_what_is_no_file(path, said):
    with pytest.raises(UserError, match=said):
        load_checkpoint_safely(path)


def test_a_date_in_a_name_is_no_hash(tmp_path, model):
    check_checkpoint(model, saved(tmp_path / 'best-20260101.pth', model))
    with pytest.raises(UserError, match='sha256 begins with 0123abcd'):
        check_checkpoint(model, saved(tmp_path / 'best_20260101-0123abcd.pth', model))


@pytest.fixture
def malicious(tmp_path, model):
    """Weights that fit, beside an object that would write ``trace``."""
    call = Call(os.system, f'touch {tmp_path}/trace')
    return saved(tmp_path / 'bad.pth', model, more=call)


def test_the_hosts_loaders_do_not_run_it_either(tmp_path, malicious):
    """They would, by themselves: they read such a file once more without torch's protection."""
    for load in CheckpointLoader.load_checkpoint, lambda path: check_checkpoint(None, path):
        with pytest.raises(UserError, match='holds more than weights'):
            load(malicious)
        assert not (tmp_path / 'trace').exists()
    for prefix, load in HOST_LOADERS.items():
        if not prefix:
            load(malicious, map_location='cpu')
    assert (tmp_path / 'trace').exists()


def test_every_loader_of_the_hosts_that_may_run_code_is_replaced():
    safe = {'torchvision://', 'modelzoo://', 'open-mmlab://', 'openmmlab://', 'mmcls://'}
    assert HOST_LOADERS.keys() == CheckpointLoader._schemes.keys() == safe | set(UNSAFE)
    assert all(CheckpointLoader._schemes[prefix] is load_from_checked for prefix in UNSAFE)


def test_trust_runs_it_here_and_in_the_hosts(tmp_path, malicious):
    trusting = partial(load_checkpoint_safely, trust=True)
    for load in trusting, CheckpointLoader.load_checkpoint:
        load(malicious)
        assert (tmp_path / 'trace').exists()
        (tmp_path / 'trace').unlink()


def test_the_host_gets_what_was_checked(tmp_path, model, malicious):
    """Not what lies under that path by then."""
    path = saved(tmp_path / 'a.pth', model)
    checkpoint = load_checkpoint_safely(path)
    hand_to_host(path, checkpoint)
    os.replace(malicious, path)
    assert CheckpointLoader.load_checkpoint(path) is checkpoint
    with pytest.raises(UserError, match='holds more than weights'):
        CheckpointLoader.load_checkpoint(path)  # the next one reads it
    assert not (tmp_path / 'trace').exists()


def test_the_host_gets_no_config_to_run(tmp_path, model):
    path = saved(tmp_path / 'a.pth', model, meta=dict(config='a', epoch=1))
    assert CheckpointLoader.load_checkpoint(path)['meta'] == dict(epoch=1)
    load_checkpoint_safely(path, trust=True)
    assert CheckpointLoader.load_checkpoint(path)['meta']['config'] == 'a'


def test_a_web_address_is_read_as_safely(tmp_path, malicious, monkeypatch):
    """As torch does, from its cache, which is filled here without a web."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints/a.pth').write_bytes((tmp_path / 'bad.pth').read_bytes())
    with pytest.raises(UserError, match='holds more than weights'):
        load_checkpoint_safely('https://example.org/a.pth')
    assert not (tmp_path / 'trace').exists()
    saved(tmp_path / 'checkpoints/a.pth', nn.Linear(1, 1))
    found = load_checkpoint_safely('https://example.org/a.pth')
    assert list(found['state_dict']) == ['weight', 'bias']


def test_safetensors_of_a_web_address(tmp_path, monkeypatch):
    """For mmengine's loader as well."""
    save_file(dict(weight=torch.ones(2)), tmp_path / 'a.safetensors')
    content = (tmp_path / 'a.safetensors').read_bytes()
    asked = []
    monkeypatch.setattr(HTTPBackend, 'get', lambda self, path: (asked.append(path), content)[1])
    for load in load_checkpoint_safely, CheckpointLoader.load_checkpoint:
        found = load('https://example.org/a.safetensors')
        assert found['state_dict']['weight'].tolist() == [1, 1]
    assert asked == 2 * ['https://example.org/a.safetensors']


def test_allowed_prefixes_may_be_of_any_shape_or_missing(tmp_path):
    def with_head(name, classes):
        model = nn.Sequential()
        model.add_module('body', nn.Linear(2, 3))
        model.add_module(name, nn.Linear(3, classes))
        return model

    model = with_head('head', 4)
    own = model.head.weight.clone()
    for other in (with_head('head', 5), with_head('head2', 4)):
        path = saved(tmp_path / 'a.pth', other)
        with pytest.raises(UserError, match='does not fit'):
            check_checkpoint(model, path)
        check_checkpoint(model, path, allowed=['head'])
        assert torch.equal(model.body.weight, other.body.weight)
        assert torch.equal(model.head.weight, own)
