import numpy as np
import pytest

from mmtlalign.datasets import ImageFolderSubset


@pytest.fixture
def draw(tmp_path):
    """Paths and labels drawn of ten files of each of 'a' and 'b', and three of 'c'."""
    for name, count in (('a', 10), ('b', 10), ('c', 3)):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f'{i}.jpg').touch()

    def run(**kwargs):
        subset = ImageFolderSubset(data_prefix=str(tmp_path), **kwargs)
        infos = [subset.get_data_info(i) for i in range(len(subset))]
        names = [info['img_path'].removeprefix(f'{tmp_path}/') for info in infos]
        return names, [info['gt_label'] for info in infos]

    return run


def test_balanced_and_correctly_labelled(draw):
    names, labels = draw(num_samples=9)
    assert np.bincount(labels).tolist() == [3, 3, 3]
    assert [name[0] for name in names] == ['abc'[label] for label in labels]


def test_draw_is_seeded_and_without_repetition(draw):
    drawn, _ = draw(num_samples=6)
    assert drawn == draw(num_samples=6, seed=0)[0]
    assert drawn != draw(num_samples=6, seed=1)[0]
    assert len(set(drawn)) == 6
    # not simply the first ones, as the host's `indices` would take
    assert sorted(drawn) != [f'{name}/{i}.jpg' for name in 'abc' for i in (0, 1)]


@pytest.mark.parametrize(
    'num_samples, complaint',
    [*((count, '.* the 3 classes') for count in (0, -3, 10)), (12, "needs 4 .* 'c' .* has 3")],
)
def test_unbalanced_number_is_refused(draw, num_samples, complaint):
    with pytest.raises(ValueError, match=f'num_samples={num_samples} {complaint}'):
        draw(num_samples=num_samples)
