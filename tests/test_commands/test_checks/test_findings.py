from mmtlalign.commands.checks.findings import Findings, report


def test_many_classes_are_said_in_one_line():
    counts = {f'c{i}': i for i in range(20)}
    found = Findings('train_dataloader.dataset.datasets.1', 9, counts=counts)
    unknown = Findings('test', 3, left_out=['1 of 4', '2 of 9'])
    assert list(report([found, unknown])) == [
        'images: train.datasets.1 9; test 3',
        'per class: train.datasets.1 190 images in 20 classes (c19 19, c18 18,'
        ' c17 17, ..., c2 2, c1 1, c0 0); test not known',
        'left out: train.datasets.1 nothing; test 1 of 4, 2 of 9',
        'warning: 1 of 20 classes of train_dataloader.dataset.datasets.1 are in no annotation: c0',
    ]


def test_unused_classes_are_the_count_and_ten_names():
    found = Findings('train', counts={f'c{i}': 0 for i in range(12)})
    names = ', '.join(f'c{i}' for i in range(10))
    assert found.all_warnings() == [f'12 of 12 classes of train are in no annotation: {names}, ...']
    assert found.as_dict()['warnings'] == found.all_warnings()
    assert 'files' not in found.as_dict()
    found.complete = False
    assert not found.all_warnings()
