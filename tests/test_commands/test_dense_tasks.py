"""The same two commands on a detector and a segmenter."""

import json

import pytest

from mmtlalign.commands.start_up_noise import KNOWN_NOISE
from projects.reliability.tasks import DETECTOR, SEGMENTER, write_scenes

from ..conftest import needs_operators


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, metric, unit, drawn',
    [
        (DETECTOR, 'coco/bbox_mAP: ', 'AP50', ['boxes', 'picture', 'true_boxes']),
        (SEGMENTER, 'mIoU: ', 'IoU', ['map', 'picture', 'true_map']),
    ],
    ids=['detector', 'segmenter'],
)
def test_one_pair_of_commands_serves_every_task(
    here, tmp_path, capsys, terminal, config, metric, unit, drawn
):
    needs_operators()
    write_scenes(tmp_path)
    (tmp_path / 'dense.py').write_text(config)
    here('train.py', 'dense.py', report=True)
    trained = capsys.readouterr()
    assert 'images/s' in trained.out and '2/2' in trained.out and '(train)' not in trained.out
    assert 'report: ' in trained.out and metric in trained.out
    work = tmp_path / 'work_dirs/dense'
    (log,) = work.glob('*/*.log')
    assert 'Iter(train) [2/2]' in log.read_text()
    found = json.loads((work / 'predictions.json').read_text())
    assert [sorted(image['drawn']) for image in found['images']] == [drawn] * 4
    assert found['per_class']['unit'] == unit
    page = (work / 'report.html').read_text()
    assert page.count('<figure class="sample"') == 4 and f'<th>{unit}, %</th>' in page
    for message in KNOWN_NOISE:
        assert message.split('. ')[0] not in trained.out + trained.err
    here('test.py', 'dense.py', 'work_dirs/dense/iter_2.pth')
    assert metric in capsys.readouterr().out
