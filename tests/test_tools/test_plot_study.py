"""The study's pictures, from units whose figures are known."""
import importlib.util
import json

import cv2
import numpy as np
import pytest

from mmtlalign.utils import UserError

from .tiny import ROOT

spec = importlib.util.spec_from_file_location(
    'plot_study', ROOT / 'tools/analysis_tools/plot_study.py')
plot_study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plot_study)


def job(value, mixed):
    return dict(
        curve=[[4, value], [8, value + 10]],
        fluctuation=[[1, .01], [2, .02]] if mixed else [],
        robustness=dict(top1={
            'clean': value, 'drop 0.25': value - 5, 'drop 0.5': value - 9,
            'fgsm 1/255': value / 2, 'fgsm 2/255': value / 4}))


@pytest.fixture
def units(tmp_path):
    """Two seeds of two arms, one of no mixing."""
    for seed in range(2):
        jobs = dict(cifar10_tlalign=job(50 + 4 * seed, True),
                    cifar10_cutmix=job(48, True), bccd_tlalign=dict(final=1.))
        if not seed:
            jobs['cifar10_none'] = job(40, False)
        (tmp_path / f'deit-mini_seed{seed}.json').write_text(
            json.dumps(dict(backbone='deit-mini', seed=seed, jobs=jobs)))
    return tmp_path


def test_lines_are_means_over_seeds(units):
    arms = plot_study.read_units(units)['deit-mini']
    figure = plot_study.draw('deit-mini', arms)
    lines = [{line.get_label(): np.column_stack(line.get_data()).tolist()
              for line in ax.get_lines()} for ax in figure.axes]
    assert lines[0] == {
        'no mixing': [[4, 40], [8, 50]], 'CutMix': [[4, 48], [8, 58]],
        'TL-Align': [[4, 52], [8, 62]]}
    assert set(lines[1]) == {'CutMix', 'TL-Align'}  # nothing moves unmixed
    assert lines[2]['TL-Align'] == [[0, 52], [.25, 47], [.5, 43]]
    assert lines[3]['TL-Align'] == [[0, 52], [1, 26], [2, 13]]
    # two seeds have a band, one has none
    assert len(figure.axes[0].collections) == 2
    assert 'no mixing 1, CutMix 2, TL-Align 2' in figure.get_suptitle()


def test_a_picture_for_each_backbone(units, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['plot_study.py', '--folder', str(units)])
    plot_study.main()
    assert cv2.imread(str(units / 'deit-mini.png')).std() > 0
    assert str(units / 'deit-mini.png') in capsys.readouterr().out


def test_without_units(tmp_path):
    with pytest.raises(UserError, match='holds no unit .*mini_study.py'):
        plot_study.read_units(tmp_path)
