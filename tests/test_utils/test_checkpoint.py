import pytest
import torch
from torch import nn

from mmtlalign.utils import UserError, check_checkpoint


def saved(path, model, **more):
    """Save as mmengine does; return the path."""
    torch.save(dict(state_dict=model.state_dict(), **more), path)
    return str(path)


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_fitting_checkpoint_is_loaded(tmp_path, model, prefix):
    state = {f'{prefix}{key}': torch.full_like(value, 2.)
             for key, value in model.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    check_checkpoint(model, str(tmp_path / 'a.pth'))
    assert all((value == 2).all() for value in model.state_dict().values())


def test_bare_weights_are_a_checkpoint(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    check_checkpoint(model, str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('other, complaint', [
    (nn.Sequential(nn.Linear(2, 3)),
     r'2 keys missing in the file \(first: 1.weight\)'),
    (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(1, 1)),
     r'2 keys unknown to the model \(first: 2.weight\)'),
    (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5)),
     r'size mismatch for 1.weight.*\[5, 3\].*\[4, 3\]')])
def test_a_checkpoint_of_another_model_is_refused(
        tmp_path, model, other, complaint):
    path = saved(tmp_path / 'a.pth', other)
    with pytest.raises(UserError, match=complaint) as error:
        check_checkpoint(model, path)
    assert path in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04'])
def test_a_damaged_file_is_said_to_be_one(tmp_path, model, content):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(UserError, match='cannot be read'):
        check_checkpoint(model, str(path))


def test_a_truncated_file_is_said_to_be_one(tmp_path, model):
    path = saved(tmp_path / 'a.pth', model)
    content = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'a.pth').write_bytes(content[:len(content) // 2])
    with pytest.raises(UserError, match='cannot be read'):
        check_checkpoint(model, path)
