"""The page about a run, of the run that the tests of training have left."""

import json
import re
import shutil

import numpy as np
import pytest

from mmtlalign.commands import report
from mmtlalign.errors import UserError
from mmtlalign.visualization.report import Run, render
from mmtlalign.visualization.report.page import most_confused

from ..browser import is_too_wide, opened


@pytest.fixture(scope='module')
def work_dir(whole):
    folder, said = whole
    assert 'report: ' in said
    return folder / 'work_dirs/tiny'


@pytest.fixture(scope='module')
def two(work_dir, tmp_path_factory):
    """A page of that run and of one that is right more often."""
    other = tmp_path_factory.mktemp('compared') / 'other <i>'
    shutil.copytree(work_dir, other)
    found = json.loads((other / 'predictions.json').read_text())
    wrong = [image for image in found['images'] if image['label'] != image['predicted']]
    wrong[0]['predicted'] = wrong[0]['label']
    (other / 'predictions.json').write_text(json.dumps(found))
    out = other.parent / 'two.html'
    report.write_report([str(work_dir), str(other)], str(out))
    return out


def test_training_keeps_what_it_last_predicted(work_dir):
    found = json.loads((work_dir / 'predictions.json').read_text())
    images = found['images']
    assert sorted(image['name'] for image in images) == sorted(
        f'class{i % 3}/{i}.png' for i in range(12)
    )
    assert all(image['label'] == int(image['name'][5]) for image in images)
    assert all('drawn' in image for image in images)  # fewer than 64
    right = np.mean([image['label'] == image['predicted'] for image in images])
    assert found['metrics']['accuracy/top1'] == pytest.approx(100 * right, abs=1e-3)
    assert found['epoch'] == 3


@pytest.mark.slow
def test_a_report_says_what_ran(work_dir, monkeypatch):
    monkeypatch.chdir(work_dir.parents[1])  # where its images are
    run = report.read_run(work_dir, 'tiny', trust=False)
    assert run.facts['command'] == 'python tools/train.py tiny.py'
    assert 'PyTorch' in run.facts['versions']
    assert run.facts['seed'] == '3'
    assert 'images/s' in run.facts['throughput']
    assert 'MiB' in run.facts['peak memory']
    assert run.alignment.startswith('data:image/png')
    assert sorted(run.val) == [1, 2, 3]


@pytest.mark.slow
def test_a_page_is_complete_in_itself(work_dir, two):
    for path in (work_dir / 'report.html', two):
        page = path.read_text()
        addresses = re.findall(r'(?:src|href)="([^"]*)', page)
        assert len(addresses) > 12 and all(a.startswith('data:') for a in addresses)
        assert path.stat().st_size < 5_000_000
    assert '<i>' not in page and 'other &lt;i&gt;' in page


@pytest.mark.slow
def test_what_two_runs_differ_by(work_dir, two):
    first, other = (
        report.read_run(folder, folder.name, False)
        for folder in (work_dir, two.parent / 'other <i>')
    )
    headline, text = report.compare(first, other)
    assert headline == 'other <i> less tiny:'
    assert text.startswith('-8.33 points of images wrong')  # one of twelve
    for image in other.predictions['images']:  # of another task
        image['missed'] = image.pop('label')
    assert report.compare(first, other) is None
    other.predictions['images'] = first.predictions['images'][:-1]
    assert report.compare(first, other) is None
    assert 'not the same images' in other.notes[-1]


@pytest.mark.slow
def test_the_page_in_a_browser(two):
    with opened(f'file://{two}') as (page, errors):
        sizes = page.evaluate('[...document.images].map(i => i.complete && i.naturalWidth)')
        assert len(sizes) > 12 and all(sizes)
        assert not is_too_wide(page)
        shown = page.locator('.sample:visible')
        assert page.locator('.sample').count() == shown.count() == 24
        page.select_option('#right', '0')
        wrong = page.evaluate('document.querySelectorAll(\'.sample[data-right="0"]\').length')
        assert shown.count() == wrong < 24
        page.select_option('#right', '')
        page.select_option('#kind', '1')
        assert shown.count() == 8 == int(page.text_content('#shown'))
        page.fill('#name', 'CLASS1/4')
        assert shown.count() == 2
        page.fill('#name', '')
        page.select_option('#kind', '')
        page.select_option('#order', '1')
        drawn = page.evaluate(
            "[...document.querySelector('.samples').children].map(c => +c.dataset.error)"
        )
        assert drawn == sorted(drawn) and drawn[0] < drawn[-1]
        page.set_viewport_size(dict(width=360, height=900))
        assert not is_too_wide(page)
        assert errors == []


@pytest.mark.slow
def test_everything_is_escaped():
    evil = '<script>alert(1)</script>"\''
    run = Run(
        evil,
        facts=dict(command=evil, **{evil: evil}),
        changes=[(evil, evil)],
        train={1: {'loss': 1.0, evil: 2.0, 'step': 1}},
        metrics={evil: 1.0},
        warnings={evil: 2},
        notes=[evil],
        predictions=dict(
            classes=[evil],
            palette=[[0, 0, 0]],
            images=[
                dict(
                    name=evil, label=0, predicted=0, score=1.0, error=0.0, drawn=dict(picture=evil)
                )
            ],
        ),
    )
    page = render([run], [(evil, evil)])
    assert page.count('<script>') == 1 and '"\'' not in page.replace('&#34;', '')


def test_beyond_a_hundred_classes_the_most_confused_pairs_are_listed():
    labels = np.repeat(np.arange(150), 3)
    predicted = (labels + 1) % 150
    predicted[:2] = 7
    pairs = most_confused(labels, predicted, [f'c{i}' for i in range(150)])
    assert len(pairs) == 50 and pairs[0][2] == 3
    assert ('c0', 'c7', 2) not in pairs  # there are fifty of three


@pytest.mark.slow
def test_a_run_without_predictions_whose_log_has_another_name_has_a_report(work_dir, tmp_path):
    old = shutil.copytree(work_dir, tmp_path / 'old')
    (old / 'predictions.json').unlink()
    (part,) = old.glob('[0-9]*')
    part.rename(old / 'first')
    report.main([str(old)])
    page = (old / 'report.html').read_text()
    assert 'predictions were not kept' in page and 'accuracy/top1' in page


def test_samples_that_are_large_are_fewer():
    picture = dict(picture='data:,' + 'a' * 200_000)
    image = dict(name='a', kinds=[0], error=0.0, drawn=picture)
    run = Run('a', predictions=dict(classes=['a'], palette=[], images=[image] * 64))
    page = render([run])
    assert page.count('<figure class="sample"') == 17 and len(page) < 5_000_000
    page = render([run] * 13)
    assert page.count('<figure class="sample"') == 13 and len(page) < 5_000_000


def test_mistakes_are_told_in_one_line(work_dir, tmp_path):
    with pytest.raises(UserError, match='holds no log of a training'):
        report.main([str(tmp_path)])
    with pytest.raises(UserError, match="gone' does not exist"):
        report.main([str(tmp_path / 'gone')])
    assert not (tmp_path / 'gone').exists()
    shutil.copytree(work_dir, tmp_path / 'run')
    found = json.loads((work_dir / 'predictions.json').read_text())
    found['images'][3]['predicted'] = 10**9
    for content in ('no JSON', '[]', '{"images": 1}', json.dumps(found)):
        (tmp_path / 'run/predictions.json').write_text(content)
        with pytest.raises(UserError, match='is no file of predictions'):
            report.main([str(tmp_path / 'run')])
