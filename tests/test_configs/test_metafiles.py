"""Metafiles, READMEs and the zoo say what configs and results are; so do the tools."""

import hashlib
import importlib.util
import json
import re
import shutil
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import save_file

from ..conftest import needs_operators
from .recipes import ROOT, read, stem, tracked

FOLDER = Path('configs', 'classification', 'tlalign')
NAMES = ('tlalign_deit-digits_1xb32_digits', 'cutmix_deit-digits_1xb32_digits')


def load_tool(name):
    """A script of tools/misc, as a module that reads every config once."""
    path = ROOT / f'tools/misc/{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Config = SimpleNamespace(
        fromfile=lambda path: read(str(path)[str(path).rindex('configs/') :])
    )
    return module


@cache
def published():
    return yaml.safe_load((ROOT / FOLDER / 'metafile.yml').read_text())


@pytest.fixture(scope='module')
def tool():
    return load_tool('check_metafile')


@pytest.fixture(scope='module')
def zoo():
    """The tool that writes the zoo; it builds once what differs in the target,
    which has no parameters, in the start, or in the number of classes, of
    which each has a row of the last layer."""
    module, counts = load_tool('make_model_zoo'), {}
    count_parameters = module.count_parameters

    def count(config):
        model = deepcopy(config.model)
        model.target = None
        model.backbone.pop('init_cfg', None)
        head = model.get('head') or {}
        classes = head.pop('num_classes', 0)
        if str(model) not in counts:
            counts[str(model)] = count_parameters(config), classes
        total, known = counts[str(model)]
        return total + (classes - known) * (head.get('in_channels', 0) + 1)

    module.count_parameters = count
    return module


@pytest.mark.slow
def test_nothing_to_report_here(tool):
    needs_operators()
    assert list(tool.check(ROOT)) == []


@pytest.mark.slow
def test_readmes_state_the_sizes_of_models(zoo):
    """All are built in full, without storage."""
    needs_operators()
    for path in tracked('configs'):
        readme = (ROOT / path).with_name('README.md').read_text()
        stated = re.search(rf'\[{stem(path)}\]\S+ \| ([\d.]+) \|', readme)
        if '/mixing/' in path:  # which states none
            continue
        digits = len(stated[1].partition('.')[2])
        assert stated[1] == f'{zoo.count_parameters(read(path)) / 1e6:.{digits}f}', path


@pytest.mark.slow
def test_model_zoo_is_what_the_metafiles_say(zoo):
    needs_operators()
    assert (ROOT / 'model-zoo.md').read_text() == zoo.render(ROOT)


def test_the_zoo_states_what_the_study_found():
    stated, found = {}, {}
    for model in published()['Models']:
        if model['Name'].endswith('_cifar10-2500'):
            for result in model['Results']:
                stated.setdefault(model['Name'], {}).update(result['Seeds'])
    for path in (ROOT / 'projects/mini_study/results').glob('*_seed*.json'):
        unit = json.loads(path.read_text())
        for job in unit['jobs'].values():
            name = Path(job['config']).stem
            if name in stated:
                found.setdefault(name, {})[unit['seed']] = job['final']
    assert stated == found and len(found) == 6


# The tools, on a repository of two configs ----------------------------------


@pytest.fixture
def repo(tmp_path):
    """Of the digits configs alone, without a problem."""
    (tmp_path / FOLDER).mkdir(parents=True)
    for name in NAMES:
        shutil.copy(ROOT / FOLDER / f'{name}.py', tmp_path / FOLDER)
    meta = deepcopy(published())
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


def test_command(tool, repo, monkeypatch, capsys):
    """One line per problem, and the status tells."""
    monkeypatch.setattr(sys, 'argv', ['check_metafile.py', str(repo)])
    monkeypatch.setattr(tool, 'silence_known_noise', lambda: None)
    for status in (0, 1):
        with pytest.raises(SystemExit) as end:
            tool.main()
        lines = capsys.readouterr().out.splitlines()
        assert end.value.code == status and len(lines) == 2 * status
        assert all('README: 0 rows' in line for line in lines)
        (repo / FOLDER / 'README.md').write_text('')


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, expected',
    [
        (lambda m, c, a: m['Metadata'].update(Epochs=45), "'Epochs' is unknown"),
        (lambda m, c, a: m['Metadata'].clear(), "key 'Training Data' is missing"),
        (lambda m, c, a: m.pop('Metadata'), "key 'Metadata' is missing"),
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
        (lambda m, c, a: m.update(Weights='zoo/a_20260101-00000000.safetensors'), 'No such file'),
    ],
)
def test_each_problem_is_told(tool, repo, change, expected):
    assert re.search(expected, problems_after(tool, repo, change))


def test_a_metafile_that_is_not_listed(tool, repo):
    (repo / 'configs/other').mkdir()
    shutil.copy(repo / FOLDER / 'metafile.yml', repo / 'configs/other')
    assert list(tool.check(repo)) == [
        'model-index.yml: metafile configs/other/metafile.yml is not listed'
    ]


def test_batch_in_the_name(tool, repo, monkeypatch):
    config = read(f'{FOLDER}/{NAMES[0]}.py')
    config.train_dataloader.batch_size = 8
    monkeypatch.setattr(tool, 'Config', SimpleNamespace(fromfile=lambda path: config))
    assert 'the name says batch 32 per device, the config 8' in '\n'.join(tool.check(repo))


def put_weights(repo, digest=None, log=97.004, **changes):
    """Weights of the first model, in a zoo, with their log; gives their place."""
    (repo / 'zoo').mkdir()
    path = repo / 'zoo/draft'
    meta = dict(dict(name=NAMES[0], seed=0, metrics={'accuracy/top1': 97.004}), **changes)
    save_file(dict(a=torch.ones(1)), path, dict(meta=json.dumps(meta)))
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    name = f'{NAMES[0]}_20260101'
    path.rename(repo / f'zoo/{name}-{digest}.safetensors')
    if log:  # validated twice
        (repo / f'zoo/{name}.log.json').write_text(
            ''.join(json.dumps({'accuracy/top1': top1}) + '\n' for top1 in (20.0, log))
        )
    return f'zoo/{name}-{digest}.safetensors'


ONE_SEED = dict(Seeds={0: 97}, Metrics={'Top 1 Accuracy': 97, 'Top 5 Accuracy': 98.5})


@pytest.mark.parametrize(
    'change, results, problem',
    [
        (dict(), {}, ''),
        (dict(digest='00000000'), {}, 'is damaged'),
        (dict(log=None), {}, 'the log of .* does not lie beside it'),
        (dict(log=96.0), {}, r'log.json does not record the Top 1 Accuracy 97 .* 96.0'),
        (dict(seed=3), {}, r'is of tlalign_deit-digits_1xb32_digits, seed 3, and not'),
        (dict(name='other'), {}, 'is of other, seed 0'),
        (
            dict(metrics={'accuracy/top1': 97.2}),
            {},
            r'safetensors does not record the Top 1 Accuracy 97 .* but 97.2',
        ),
        (dict(metrics={'accuracy/top5': 97.0}), {}, '97 .* but None'),
        # of one seed, every figure is compared
        (
            dict(metrics={'accuracy/top1': 97.0, 'accuracy/top5': 99.0}),
            ONE_SEED,
            'record the Top 5 Accuracy 98.5 .* but 99.0',
        ),
        (
            dict(),
            dict(Seeds={0: 97}, Metrics={'Top 1 Accuracy': 97, 'Top 2': 98}),
            'Weights: Top 2 has no key in LOGGED',
        ),
    ],
)
def test_weights_of_the_zoo(tool, repo, change, results, problem):
    def publish(model, *_):
        model['Weights'] = put_weights(repo, **change)
        model['Results'][0].update(results)

    found = problems_after(tool, repo, publish)
    assert re.search(problem, found) if problem else not found


def test_model_zoo_states_what_configs_say(repo, zoo):
    text = zoo.render(repo)
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
