"""What ends analysis_tools/robustness.py, and when; test_evaluation has more."""

import json
import shutil

import pytest

TOOL = 'analysis_tools/robustness.py'


@pytest.mark.slow
def test_what_was_measured_is_not_lost(ends_with, trained, tmp_path):
    for name in ('good', 'bad'):
        shutil.copytree('images', name)
    (tmp_path / 'bad/class2/2.png').write_bytes(b'no image')
    said = ends_with(TOOL, 'tiny.py', trained, '--drop', '--fgsm', '--folders', 'A=good', 'B=bad')
    assert 'failed to load image: bad/class2/2.png' in said
    top1 = json.loads((tmp_path / 'robustness.json').read_text())['top1']
    assert set(top1) == {'clean', 'A'} and top1['A'] == top1['clean']


@pytest.mark.slow
def test_a_default_that_fits(here, trained, tmp_path):
    for out, options in (('a.json', []), ('b.json', ['--patch-size', '4'])):
        here(TOOL, 'tiny.py', trained, '--out', f'new/{out}', *options)
    results = [json.loads((tmp_path / 'new' / out).read_text()) for out in ('a.json', 'b.json')]
    assert results[0] == results[1]  # whole patches of the backbone
