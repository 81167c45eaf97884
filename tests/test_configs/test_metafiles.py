import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import save_file

from ..conftest import needs_operators
from .conftest import read

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'misc' / 'check_metafile.py'
FOLDER = Path('configs', 'classification', 'tlalign')
NAMES = ('tlalign_deit-digits_1xb32_digits', 'cutmix_deit-digits_1xb32_digits')


def load_tool(name):
    """A script of tools/misc, as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOL.with_name(f'{name}.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def tool():
    return load_tool('check_metafile')


@pytest.mark.slow
def test_nothing_to_report_here(tool, monkeypatch):
    needs_operators()
    # which other tests have read already
    monkeypatch.setattr(tool, 'Config', SimpleNamespace(fromfile=read))
    assert list(tool.check(ROOT)) == []


def test_the_zoo_states_what_the_study_found():
    stated, found = {}, {}
    meta = yaml.safe_load((ROOT / 'configs/classification/tlalign/metafile.yml').read_text())
    study = [model for model in meta['Models'] if model['Name'].endswith('_cifar10-2500')]
    for model in study:
        for result in model['Results']:
            stated.setdefault(model['Name'], {}).update(result['Seeds'])
    for path in (ROOT / 'projects/mini_study/results').glob('*_seed*.json'):
        unit = json.loads(path.read_text())
        for job in unit['jobs'].values():
            name = Path(job['config']).stem
            if name in stated:
                found.setdefault(name, {})[unit['seed']] = job['final']
    assert stated == found and len(found) == 6


@pytest.fixture
def repo(tmp_path):
    """A repository of the digits configs alone, without a problem."""
    shutil.copytree(
        ROOT / 'configs' / 'classification' / '_base_',
        tmp_path / 'configs' / 'classification' / '_base_',
    )
    (tmp_path / FOLDER).mkdir()
    for name in NAMES:
        shutil.copy(ROOT / FOLDER / f'{name}.py', tmp_path / FOLDER)
    meta = yaml.safe_load((ROOT / FOLDER / 'metafile.yml').read_text())
    meta['Models'] = [m for m in meta['Models'] if m['Name'] in NAMES]
    meta['Models'][0]['Results'] = [
        dict(
            Task='Image Classification',
            Dataset='digits',
            Metrics={'Top 1 Accuracy': 97.5},
            Seeds={0: 97, 1: 98},
            Command=f'python tools/train.py {FOLDER / NAMES[0]}.py',
        )
    ]
    meta['Models'][1].pop('Results')
    for model in meta['Models']:
        model.pop('Weights', None)  # the zoo stays behind
    write(tmp_path, meta)
    (tmp_path / FOLDER / 'README.md').write_text(
        f'| [{NAMES[0]}](x) | 97.5 |\n| [{NAMES[1]}](x) | - |\n'
    )
    (tmp_path / 'model-index.yml').write_text(f'Import:\n  - {FOLDER / "metafile.yml"}\n')
    return tmp_path


def write(repo, meta):
    (repo / FOLDER / 'metafile.yml').write_text(yaml.safe_dump(meta))


def problems_after(tool, repo, change):
    """Problems of the repository once ``change`` was made to its metafile."""
    meta = yaml.safe_load((repo / FOLDER / 'metafile.yml').read_text())
    change(meta['Models'][0], meta['Collections'][0], meta)
    write(repo, meta)
    return '\n'.join(tool.check(repo))


def test_clean_repository(tool, repo, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['check_metafile.py', str(repo)])
    monkeypatch.setattr(tool, 'silence_known_noise', lambda: None)
    with pytest.raises(SystemExit) as end:
        tool.main()
    assert end.value.code == 0
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    'change, expected',
    [
        (lambda m, c, a: m['Metadata'].update(Epochs=45), "'Epochs' is unknown"),
        (lambda m, c, a: m['Metadata'].clear(), "key 'Training Data' is missing"),
        (lambda m, c, a: m.pop('Metadata'), "key 'Metadata' is missing"),
        (lambda m, c, a: m.update(Result=None), "key 'Result' is unknown"),
        (lambda m, c, a: m.update({'In Collection': 'X'}), "'X' is unknown"),
        (lambda m, c, a: m.update(Config=f'{FOLDER}/x.py'), 'is not the file of that name'),
        (lambda m, c, a: m.update(Name='x'), 'config x does not exist'),
        (lambda m, c, a: a['Models'].pop(), f'config {NAMES[1]} is not listed'),
        (lambda m, c, a: a['Models'].append(m), 'is listed 2 times'),
        (lambda m, c, a: m['Results'][0].pop('Command'), "Results: key 'Command' is missing"),
        (
            lambda m, c, a: m['Results'][0].update(Command='python x.py'),
            'Command does not name the config',
        ),
        (
            lambda m, c, a: m['Results'][0]['Seeds'].update({2: 90}),
            'Top 1 Accuracy 97.5 is not the mean of the seeds, 95.00',
        ),
        (
            lambda m, c, a: m['Results'][0]['Metrics'].update({'Top 5': 101}),
            'Top 5: 101 is no percentage',
        ),
        (
            lambda m, c, a: m['Results'][0]['Metrics'].update({'Top 5': 99.9}),
            'README: the row of .* lacks Top 5 99.9',
        ),
        (lambda m, c, a: m.update(Published=m['Results']), "Published: key 'Source' is missing"),
        (
            lambda m, c, a: c['Paper'].update(URL='2210.06455'),
            "URL '2210.06455' is not of the form",
        ),
        (lambda m, c, a: c.update(README='nowhere.md'), 'README nowhere.md does not exist'),
        (lambda m, c, a: c.pop('Paper'), "key 'Paper' is missing"),
    ],
)
def test_each_problem_is_told(tool, repo, change, expected):
    assert re.search(expected, problems_after(tool, repo, change))


def test_missing_metafile_and_row(tool, repo):
    (repo / 'configs' / 'other').mkdir()
    shutil.copy(repo / FOLDER / 'metafile.yml', repo / 'configs' / 'other')
    (repo / FOLDER / 'README.md').write_text('')
    problems = list(tool.check(repo))
    assert ('model-index.yml: metafile configs/other/metafile.yml is not listed') in problems
    assert any(f'0 rows for {NAMES[1]}' in problem for problem in problems)


def test_batch_in_the_name(tool, repo):
    path = repo / FOLDER / f'{NAMES[0]}.py'
    path.write_text(path.read_text() + 'train_dataloader = dict(batch_size=8)\n')
    assert any(
        'the name says batch 32 per device, the config 8' in problem for problem in tool.check(repo)
    )


def test_command_line(repo):
    """One line per problem, and the status tells."""
    (repo / FOLDER / 'README.md').write_text('')
    done = subprocess.run([sys.executable, str(TOOL), str(repo)], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert all('README: 0 rows' in line for line in done.stdout.splitlines())


@pytest.fixture
def weights(repo):
    """Weights of the first model, in a zoo; returns how to change them."""

    def put(digest=None, log=97.004, **changes):
        shutil.rmtree(repo / 'zoo', ignore_errors=True)
        (repo / 'zoo').mkdir()
        path = repo / 'zoo/draft'
        save_file(
            dict(a=torch.ones(1)),
            path,
            dict(
                meta=json.dumps(
                    dict(dict(name=NAMES[0], seed=0, metrics={'accuracy/top1': 97.004}), **changes)
                )
            ),
        )
        digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        name = f'{NAMES[0]}_20260101'
        path.rename(repo / f'zoo/{name}-{digest}.safetensors')
        if log:  # validated twice
            (repo / f'zoo/{name}.log.json').write_text(
                ''.join(json.dumps({'accuracy/top1': top1}) + '\n' for top1 in (20.0, log))
            )
        return f'zoo/{name}-{digest}.safetensors'

    return put


@pytest.mark.parametrize(
    'change, problem',
    [
        (dict(), ''),
        (dict(digest='00000000'), 'is damaged'),
        (dict(log=None), 'the log of .* does not lie beside it'),
        (dict(log=96.0), r'log.json does not record the Top 1 Accuracy 97 .* 96.0'),
        (dict(seed=3), r'is of tlalign_deit-digits_1xb32_digits, seed 3, and not'),
        (dict(name='other'), 'is of other, seed 0'),
        (
            dict(metrics={'accuracy/top1': 97.2}),
            r'safetensors does not record the Top 1 Accuracy 97 .* but 97.2',
        ),
        (dict(metrics={'accuracy/top5': 97.0}), '97 .* but None'),
    ],
)
def test_weights_of_the_zoo(tool, repo, weights, change, problem):
    path = weights(**change)
    found = problems_after(tool, repo, lambda model, *_: model.update(Weights=path))
    assert re.search(problem, found) if problem else not found


def test_of_one_seed_every_figure_is_compared(tool, repo, weights):
    path = weights(metrics={'accuracy/top1': 97.0, 'accuracy/top5': 99.0})

    def change(model, *_):
        model['Weights'] = path
        model['Results'][0].update(
            Seeds={0: 97}, Metrics={'Top 1 Accuracy': 97, 'Top 5 Accuracy': 98.5}
        )

    assert re.search(
        'record the Top 5 Accuracy 98.5 .* but 99.0', problems_after(tool, repo, change)
    )
    assert 'Weights: Top 2 has no key in LOGGED' in problems_after(
        tool,
        repo,
        lambda model, *_: model['Results'][0].update(Metrics={'Top 1 Accuracy': 97, 'Top 2': 98}),
    )


def test_absent_weights(tool, repo):
    assert 'No such file' in problems_after(
        tool, repo, lambda model, *_: model.update(Weights='zoo/a_20260101-00000000.safetensors')
    )


@pytest.mark.slow
def test_model_zoo_is_what_the_metafiles_say():
    needs_operators()
    text = load_tool('make_model_zoo').render(ROOT)
    assert (ROOT / 'model-zoo.md').read_text() == text


def test_model_zoo_states_what_configs_say(repo):
    module = load_tool('make_model_zoo')
    text = module.render(repo)
    # counted apart: 3 x 8 x 8 pixels to 64 channels, positions of 4 x 4 patches and of the class
    # token, which is one more, four blocks, a norm and the head
    block = 64 * 3 * 65 + 64 * 65 + 256 * 65 + 64 * 257 + 2 * 2 * 64
    parameters = 64 * 193 + 64 * 18 + 4 * block + 2 * 64 + 10 * 65
    assert (
        f'| [{NAMES[0]}]({FOLDER}/{NAMES[0]}.py) | {parameters:,} | 45 epochs | 32 | digits |'
    ) in text
    assert '| Top 1 Accuracy 97.5 | 0, 1 | - |' in text
    assert f'\npython tools/train.py {FOLDER}/{NAMES[0]}.py\n' in text
    assert NAMES[1] not in text  # nothing is known of it
