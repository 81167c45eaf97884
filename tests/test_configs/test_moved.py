"""Old paths of configs are answered with the new ones."""

import re
from pathlib import Path

import pytest

from mmtlalign.errors import UserError
from mmtlalign.resources import find_config

from ..conftest import ROOT

OLD = [
    'configs/classification/study/none_deit-mini_1xb128-128e_cifar10-2500.py',
    'configs/detection/mini/faster-rcnn_tlalign-swin-mini_fpn_1xb2_bccd.py',
    'configs/segmentation/mini/tlalign-deit-mini_upernet_1xb4-600_camvid-120x90.py',
]


@pytest.mark.parametrize('path', OLD)
def test_an_old_path_is_answered_in_one_line(path, tmp_path, monkeypatch):
    new = re.sub('/(study|mini)/', '/tlalign/', path)
    assert (ROOT / new).is_file()
    monkeypatch.chdir(tmp_path)  # from wherever it is asked for
    for given in (path, path.removesuffix('.py'), ROOT / path):
        with pytest.raises(UserError) as error:
            find_config(given)
        assert str(error.value) == f"config '{given}' has moved: it is now '{new}'"
    assert Path(find_config(Path(path).stem)) == ROOT / new  # by its name as before


def test_what_never_was_is_not_there():
    with pytest.raises(UserError, match='does not exist'):
        find_config('configs/detection/mini/another.py')
