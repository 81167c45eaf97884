"""The store of token labels: round trip, interruptions, comparisons."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset

from mmtlalign.datasets import Digits, LoadTokenLabels, TokenLabelStore, image_names
from mmtlalign.errors import UserError

CLASSES = ('cat', 'dog', 'owl')
NAMES = [f'{name}/{i}.png' for name in CLASSES for i in range(2)]


def maps(count, seed=0, k=2, num_classes=len(CLASSES)):
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((count, 4, 5, num_classes)), -1)[..., :k]
    return ids, rng.dirichlet(np.ones(k + 1), (count, 4, 5))[..., :k]


def create(folder, names=NAMES, classes=CLASSES, **kwargs):
    return TokenLabelStore.create(str(folder / 'store'), names, classes, (4, 5), 2, **kwargs)


@pytest.fixture
def complete(tmp_path):
    """Folder of a store, and what was written to it."""
    store = create(tmp_path)
    ids, scores = maps(6)
    store.write(np.array([4, 0, 2]), ids[[4, 0, 2]], scores[[4, 0, 2]])
    store.write(np.array([1, 3, 5]), ids[[1, 3, 5]], scores[[1, 3, 5]])
    return str(tmp_path / 'store'), ids, scores


@pytest.fixture
def dataset(tmp_path):
    """The images of NAMES, empty files as nobody opens them."""

    def build(names=NAMES, root='images', **kwargs):
        for name in names:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return CustomDataset(data_root=str(tmp_path / root), **kwargs)

    return build


def test_round_trip(complete, dataset):
    path, ids, scores = complete
    store = TokenLabelStore(path)
    store.check(dataset())
    assert len(store) == 6 and store.classes == list(CLASSES)
    for row, name in enumerate(NAMES):
        labels = store.read(row, f'/elsewhere/{name}', (30, 40))
        np.testing.assert_array_equal(labels.ids, ids[row])
        np.testing.assert_array_equal(labels.scores, scores[row].astype(np.float16))
        assert labels.ids.dtype == np.int16
        assert labels.box.tolist() == [0, 0, 5, 4]
        assert labels.image_size == (30, 40)
        assert labels.num_classes == 3 and labels.score_mode == 'probs'


def test_many_classes_take_wider_ids(tmp_path):
    for count, dtype in ((32767, np.int16), (32768, np.int32)):
        classes = [str(i) for i in range(count)]
        folder = tmp_path / str(count)
        store = create(folder, NAMES[:1], classes)
        ids = np.full((1, 4, 5, 2), count - 1)
        store.write(np.array([0]), ids, np.zeros(ids.shape))
        read = TokenLabelStore(str(folder / 'store')).read(0, NAMES[0], (8, 8))
        assert read.ids.dtype == dtype and (read.ids == count - 1).all()


def test_maps_of_a_part_of_the_image(tmp_path):
    """A map of the middle square of a wide image, as was published."""
    store = create(tmp_path, NAMES[:1])
    ids, scores = maps(1)
    store.write(np.array([0]), ids, scores, rectangle=(0.25, 0, 0.75, 1))
    labels = store.read(0, NAMES[0], (100, 200))
    # 5 cells cover half the width: the image reaches from -2.5 to 7.5
    np.testing.assert_allclose(labels.box, [-2.5, 0, 7.5, 4])
    middle = labels.cropped(0, 50, 100, 100, (64, 64))
    np.testing.assert_allclose(middle.box, [0, 0, 5, 4])


def test_unfinished_stores_go_on_where_they_stopped(tmp_path):
    store = create(tmp_path)
    ids, scores = maps(6)
    store.write(np.arange(4), ids[:4], scores[:4])
    with pytest.raises(UserError, match='not complete: 4 of 6 maps'):
        TokenLabelStore(store.path)
    again = create(tmp_path)
    assert again.done.tolist() == [True] * 4 + [False] * 2
    again.write(np.array([4, 5]), ids[4:], scores[4:])
    read = TokenLabelStore(store.path)
    for row in range(6):
        np.testing.assert_array_equal(read.read(row, NAMES[row], (8, 8)).ids, ids[row])


def test_killed_between_a_map_and_its_mark(tmp_path):
    store = create(tmp_path)
    del store._arrays['done']
    with pytest.raises(KeyError, match='done'):
        store.write(np.arange(6), *maps(6))
    assert not create(tmp_path).done.any()


def test_killed_while_it_was_laid_out(tmp_path, monkeypatch):
    monkeypatch.setattr('json.dumps', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create(tmp_path)
    monkeypatch.undo()
    assert not create(tmp_path).done.any()


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(classes=('cat', 'owl', 'dog')), "classes=.*'dog', 'owl'.*remove"),
        (dict(names=NAMES[1:]), 'num_images=6 instead of 5'),
        (dict(score_mode='logits'), 'score_mode=probs instead of logits'),
        (dict(annotator=dict(size=64)), "annotator={} instead of {'size': 64}"),
    ],
)
def test_another_store_is_not_gone_on_with(complete, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        create(tmp_path, **change)


def with_array(name, change):
    """A change of a store that writes one of its arrays anew."""
    return lambda folder: np.save(folder / f'{name}.npy', change(np.load(folder / f'{name}.npy')))


def put(name, place, value):
    def change(array):
        array[place] = value
        return array

    return with_array(name, change)


def test_every_bit_flip_is_found(complete):
    for name in ('ids', 'scores', 'rectangles'):
        path = Path(complete[0], f'{name}.npy')
        content = path.read_bytes()
        start = len(content) - np.load(path).nbytes
        for place in range(start, len(content), 17):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            path.write_bytes(flipped)
            store = TokenLabelStore(complete[0])
            with pytest.raises(UserError, match='is damaged'):
                for row, image in enumerate(NAMES):
                    store.read(row, image, (8, 8))
        path.write_bytes(content)


def test_maps_that_are_not_finite_are_not_written(tmp_path):
    store = create(tmp_path)
    ids, scores = maps(6)
    scores[2, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match='map of image 2 .*not finite'):
        store.write(np.arange(6), ids, scores)
    assert not store.done.any()


def test_logits_may_have_any_sum(tmp_path):
    store = create(tmp_path, score_mode='logits')
    ids, scores = maps(6)
    store.write(np.arange(6), ids, scores * 50 - 20)
    TokenLabelStore(store.path).read(0, NAMES[0], (8, 8))


def index_with(changes):
    """A change of the index."""
    return lambda folder: (folder / 'index.json').write_text(
        json.dumps({**json.loads((folder / 'index.json').read_text()), **changes})
    )


def test_stores_of_the_first_format_have_no_sums(complete):
    path, ids, _ = complete
    index_with(dict(format=1))(Path(path))
    Path(path, 'sums.npy').unlink()
    assert (TokenLabelStore(path).read(2, NAMES[2], (8, 8)).ids == ids[2]).all()


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda folder: (folder / 'index.json').write_text('{'), 'damaged .index.json'),
        (lambda folder: (folder / 'index.json').write_text('[]'), 'damaged .index.json'),
        (lambda folder: (folder / 'index.json').write_text('[' * 100_000), 'damaged .index.json'),
        (lambda folder: (folder / 'scores.npy').write_text('x'), 'are damaged'),
        (lambda folder: (folder / 'names.txt').write_bytes(b'\xff'), 'damaged .names.txt'),
        (lambda folder: shutil.rmtree(folder), 'do not exist; make them with'),
        (index_with(dict(format=9)), 'format 9'),
        (put('scores', (3, 1, 1, 0), np.nan), '3 is damaged .*a score is not finite'),
        (put('scores', (3, 1, 1, 0), -0.5), '3 is damaged .*no probabilities'),
        (put('scores', (3, 1, 1), 0.8), '3 is damaged .*no probabilities'),
        (put('ids', (3, 0, 0, 0), 3), '3 is damaged .*its classes are 0 to 3, but there are 3'),
        (put('ids', (3, 0, 0, 0), -1), '3 is damaged .*its classes are -1 to 2'),
        (put('rectangles', 3, [0.5, 0, 0.5, 1]), '3 is damaged .*rectangle, .*no part of an image'),
        (put('rectangles', 3, [0, 0, 1, np.nan]), '3 is damaged .*no part of an image'),
        (put('sums', 3, 7), '3 is damaged .*its sum is not the one'),
        (with_array('done', lambda a: a[:4]), r'holds bool \(4,\), not bool.* \(6,\)'),
        (with_array('ids', lambda a: a[..., :1]), r'ids.npy holds int16 \(6, 4, 5, 1\)'),
        (with_array('ids', lambda a: a.astype(np.int32)), 'ids.npy holds int32'),
        *(
            (index_with({key: value}), f'index.json: {key} is ')
            for key, values in dict(
                num_images=('six', -1, True),
                grid=([4], '45', [4, 5.0]),
                top_k=(0,),
                classes=('cat', [], [1, 2, 3]),
            ).items()
            for value in values
        ),
    ],
)
def test_damaged_stores(complete, dataset, change, message):
    change(Path(complete[0]))
    with pytest.raises(UserError, match=message) as error:
        TokenLabelStore(complete[0]).check(dataset())
    assert '\n' not in str(error.value)


def test_names(dataset):
    assert image_names(dataset()) == NAMES
    digits = Digits(split='val', indices=3)
    names = image_names(digits)
    assert len(set(names)) == 3 and names[1].startswith('image 1 of class ')


@pytest.mark.parametrize(
    'names, message',
    [
        (NAMES[:5], 'belong to 6 images, the data set has 5: there are 6 there and 5 here'),
        (
            [*NAMES[:4], 'owl/0.png', 'owl/9.png'],
            "number 5 is 'owl/1.png' there and 'owl/9.png' here",
        ),
        (
            ['ant' + name[3:] if name[:3] == 'cat' else name for name in NAMES],
            "other classes .*number 0 is 'cat' there and 'ant' here",
        ),
    ],
)
def test_another_dataset(complete, dataset, names, message):
    with pytest.raises(UserError, match=message):
        TokenLabelStore(complete[0]).check(dataset(names))


def results(row=3, path='somewhere/dog/1.png'):
    return dict(img=np.zeros((6, 8, 3)), sample_idx=row, img_path=path)


def test_load(complete):
    path, ids, _ = complete
    load = LoadTokenLabels(path)
    labels = load(results())['token_labels']
    np.testing.assert_array_equal(labels.ids, ids[3])
    assert labels.image_size == (6, 8)
    assert path in repr(load)
    copy = pickle.loads(pickle.dumps(load))
    np.testing.assert_array_equal(copy(results())['token_labels'].ids, ids[3])
    assert len(pickle.dumps(load)) < 1000


@pytest.mark.parametrize('row, path', [(3, 'dog/0.png'), (6, 'dog/1.png')])
def test_load_another_image(complete, row, path):
    with pytest.raises(UserError, match=f"no image {row}, '{path}'"):
        LoadTokenLabels(complete[0])(results(row, path))
