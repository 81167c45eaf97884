import numpy as np
import pytest

from mmtlalign.datasets import ImageFolderSubset


@pytest.fixture
def folder(tmp_path):
    """Ten files of each of 'a' and 'b', and three of 'c'."""
    for name, count in (('a', 10), ('b', 10), ('c', 3)):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f'{i}.jpg').touch()
    return str(tmp_path)


def paths(folder, **kwargs):
    subset = ImageFolderSubset(data_prefix=folder, **kwargs)
    return [subset.get_data_info(i)['img_path'] for i in range(len(subset))]


def test_balanced_and_correctly_labelled(folder):
    subset = ImageFolderSubset(data_prefix=folder, num_samples=9)
    assert np.bincount(subset.get_gt_labels()).tolist() == [3, 3, 3]
    for i in range(9):
        info = subset.get_data_info(i)
        assert info['img_path'].split('/')[-2] == 'abc'[info['gt_label']]


def test_draw_is_seeded_and_without_repetition(folder):
    drawn = paths(folder, num_samples=6)
    assert drawn == paths(folder, num_samples=6, seed=0)
    assert drawn != paths(folder, num_samples=6, seed=1)
    assert len(set(drawn)) == 6
    # not simply the first ones, as the host's `indices` would take
    first = [f'{folder}/{name}/{i}.jpg' for name in 'abc' for i in (0, 1)]
    assert sorted(drawn) != first


@pytest.mark.parametrize(
    'num_samples, complaint',
    [*((count, '.* the 3 classes') for count in (0, -3, 10)), (12, "needs 4 .* 'c' .* has 3")],
)
def test_unbalanced_number_is_refused(folder, num_samples, complaint):
    with pytest.raises(ValueError, match=f'num_samples={num_samples} {complaint}'):
        paths(folder, num_samples=num_samples)
