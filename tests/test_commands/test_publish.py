"""``mmtlalign publish``, on a training whose weights are known."""

import hashlib
import json
import re
import shutil

import mmengine
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mmtlalign.checkpoint import publishing
from mmtlalign.checkpoint.plain_types import check_plain_types
from mmtlalign.checkpoint.training_record import read_config, split_version
from mmtlalign.commands import publish as publish_model
from mmtlalign.errors import UserError
from mmtlalign.resources import list_configs

from ..test_configs.recipes import read
from ..tiny import CONFIG, write_project
from .test_train_and_test import load, same


@pytest.fixture
def edited(whole, tmp_path, monkeypatch):
    """Change a checkpoint in a copy of its work dir; return its path."""
    work_dir = tmp_path / 'tiny'
    shutil.copytree(whole[0] / 'work_dirs/tiny', work_dir)
    monkeypatch.chdir(tmp_path)

    def edit(change=lambda checkpoint: None):
        checkpoint = load(work_dir / 'epoch_3.pth')
        change(checkpoint)
        torch.save(checkpoint, work_dir / 'epoch_3.pth')
        return work_dir / 'epoch_3.pth'

    return edit


@pytest.fixture
def publish(tmp_path):
    """Run the tool in this process; return what the two files hold."""

    def publish(checkpoint, *arguments):
        publish_model.main([str(checkpoint), str(tmp_path / 'zoo'), *arguments])
        found = {}
        (log,) = (tmp_path / 'zoo').glob('tiny_*.log.json')
        for path in set((tmp_path / 'zoo').iterdir()) - {log}:
            stem, digest = path.stem.rsplit('-', 1)
            assert re.fullmatch(r'tiny_\d{8}', stem)
            whole = hashlib.sha256(path.read_bytes()).hexdigest()
            assert whole.startswith(digest) and len(digest) == 8
            found[path.suffix] = path
        assert set(found) == {'.pth', '.safetensors'}
        pth = torch.load(found['.pth'], weights_only=True)
        safe = load_file(found['.safetensors'])
        assert set(pth) == {'meta', 'state_dict'}
        assert set(safe) == set(pth['state_dict'])
        for key, value in pth['state_dict'].items():
            assert torch.equal(value, safe[key])
        with safe_open(found['.safetensors'], 'pt') as file:
            assert json.loads(file.metadata()['meta']) == pth['meta']
        return pth

    return publish


def test_the_weights_of_the_last_step(trained, publish, tmp_path):
    published, written = publish(trained), load(trained)
    assert same(published['state_dict'], dict(written['state_dict']))
    meta = published['meta']
    assert (meta['weights'], meta['seed'], meta['epoch'], meta['iter']) == ('last step', 3, 3, 9)
    assert "type='mmtlalign.TLAlignClassifier'" in meta['config']
    assert meta['command'] == 'python tools/train.py tiny.py'
    assert 'no config of this name' in meta['beyond_command']
    assert meta['versions']['mmengine'] == mmengine.__version__
    assert set(meta['published_with']) == {'mmtlalign', 'torch'}
    (log,) = (tmp_path / 'zoo').glob('*.log.json')
    rows = map(json.loads, log.read_text().splitlines())
    assert [row['step'] for row in rows if 'accuracy/top1' in row] == [1, 2, 3]


@pytest.mark.slow
def test_the_average_of_the_steps(here, publish, tmp_path):
    """It begins at the weights after one step."""
    interval = "dict(type='CheckpointHook', by_epoch=False, interval=1)"
    hook = "custom_hooks.append(dict(type='EMAHook', momentum=0.5))\n"
    short = 'train_cfg = dict(by_epoch=False, max_iters=3, val_interval=3)\nparam_scheduler = []\n'
    write_project(tmp_path, f"{hook}{short}default_hooks['checkpoint'] = {interval}\n")
    here('train.py', 'tiny.py')
    files = [tmp_path / f'work_dirs/tiny/iter_{i}.pth' for i in (1, 2, 3)]
    key = 'backbone.cls_token'  # under which mmengine saves the average
    steps = [load(file)['ema_state_dict'][f'module.{key}'] for file in files]
    expected = ((steps[0] + steps[1]) / 2 + steps[2]) / 2
    for options, weight, called in (([], expected, 'average'), (['--raw'], steps[2], 'last step')):
        published = publish(files[2], *options)
        torch.testing.assert_close(published['state_dict'][key], weight)
        assert published['meta']['weights'] == called
        shutil.rmtree(tmp_path / 'zoo')


def test_backbone_in_half_precision_with_results(trained, publish, tmp_path):
    results = tmp_path / 'results.json'
    results.write_text('{"accuracy/top1": 51.24, "time": 0.1, "ok": true}')
    published = publish(trained, '--backbone-only', '--half', '--metrics', str(results))
    whole = load(trained)['state_dict']
    backbone = {key: value.half() for key, value in whole.items() if key.startswith('backbone.')}
    assert len(backbone) < len(whole) and same(published['state_dict'], backbone)
    assert published['meta']['metrics'] == {'accuracy/top1': 51.24}


NOT_PLAIN = 'its model is built of .*, which is none of the types that are known .* --trust'
EVIL = "dict(_scope_='evil', type='ImageClassifier')"
FOREIGN = "types are looked up in 'evil'"


def set_cfg(text):
    return lambda checkpoint: checkpoint['meta'].update(cfg=text)


NAN, LARGE = (
    lambda c, value=value: c['state_dict']['head.layers.head.weight'].fill_(value)
    for value in (torch.nan, 1e6)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    'change, arguments, message',
    [
        (NAN, '', r'head\.weight holds values that are not finite'),
        (LARGE, '--half', r'head\.weight is too large .* leave out --half'),
        (lambda c: c['state_dict'].pop('backbone.cls_token'), '', r'1 keys missing in the file'),
        (lambda c: c['meta'].pop('cfg'), '', 'does not hold the config'),
        (lambda c: None, '--raw', 'without an EMAHook .* leave out --raw'),
        (lambda c: None, '--metrics gone.json', "'gone.json' does not"),
        (lambda c: None, '--name a/b', "name 'a/b' may hold letters"),
        (
            lambda c: c.update(ema_state_dict=c['state_dict']),
            '--raw',
            r'lacks \d+ of \d+ weights of the last step \(first: module\.\w.* --raw',
        ),
        (lambda c: c['meta'].update(time=5), '', r'meta\.time is 5, not a string'),
        (lambda c: c['meta'].update(legs=[5]), '', r'meta\.legs is \[5\], not the parts'),
        (
            lambda c: c['meta'].update(mmengine_version=None),
            '',
            r'meta\.mmengine_version is None, not a string; publish one that',
        ),
        (set_cfg("model = dict(type='os.system', command='touch trace')"), '', NOT_PLAIN),
        (set_cfg(f'model = {EVIL}'), '', FOREIGN),
    ],
)
def test_what_is_not_published(edited, publish, tmp_path, monkeypatch, change, arguments, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'evil').mkdir()
    (tmp_path / 'evil/registry.py').write_text(f"open('{tmp_path}/trace', 'w')")
    with pytest.raises(UserError, match=message):
        publish(edited(change), *arguments.split())
    assert not list((tmp_path / 'zoo').glob('*')) and not (tmp_path / 'trace').exists()


@pytest.mark.parametrize(
    'results, message',
    [
        ('[51.24]', 'a.json. holds a list, not figures by name; give the one that tools/test.py'),
        ('[' * 100_000, 'a.json. is no JSON'),
        ('# no results', 'a.json. is no JSON'),
        ('{"mIoU": NaN}', 'a.json.: mIoU is nan, not a finite number; test again'),
    ],
)
def test_results_without_figures_are_refused(tmp_path, results, message):
    (tmp_path / 'a.json').write_text(results)
    with pytest.raises(UserError, match=message):
        publishing.read_metrics(str(tmp_path / 'a.json'))


CODE = "__import__('os').system('touch trace')"


def test_a_config_that_mmengine_would_rewrite_is_not(edited, publish, tmp_path):
    """It puts environment and base configs into the text, and runs that."""
    (tmp_path / 'base.py').write_text(CODE)
    more = f"""a = '{{{{"$UNSET:\\'}}}}', '+{CODE.replace("'", '"')}#'\n"""
    more += f"_base_ = '{tmp_path}/base.py'\n"
    publish(edited(lambda c: c['meta'].update(cfg=c['meta']['cfg'] + more)))
    assert not (tmp_path / 'trace').exists()
    shutil.rmtree(tmp_path / 'zoo')
    # what this test would miss if nothing could have run
    publish(edited(set_cfg(CONFIG + f'a = {CODE}')), '--trust')
    assert (tmp_path / 'trace').exists()


# A registered type that reads other configs, one that downloads and unpickles,
# one that is none, and one hidden in another's arguments.
@pytest.mark.parametrize(
    'model, message',
    [
        ("dict(type='os.system', command='touch trace')", NOT_PLAIN),
        ("dict(type='mmpretrain.CLIPGenerator', tokenizer_path='trace')", NOT_PLAIN),
        ("dict(type='CLIPGenerator', tokenizer_path='trace')", NOT_PLAIN),
        ("dict(type='mmdet.KnowledgeDistillationSingleStageDetector')", NOT_PLAIN),
        ("dict(type='ImageClassifier', more=[dict(a=dict(type='os.system'))])", NOT_PLAIN),
        ("dict(type='mmtlalign.models.Falling')", NOT_PLAIN),
        ("dict(type='mmtlalign.Gone')", NOT_PLAIN),
        ("dict(type='evil.ImageClassifier')", NOT_PLAIN),
        ("dict(type=('os', 'system'))", NOT_PLAIN),
        (EVIL, FOREIGN),
        ("dict(type='ImageClassifier')\ndefault_scope = 'evil'", FOREIGN),
    ],
)
def test_only_plain_types_are_built(model, message):
    plain = "model = dict(type='ImageClassifier')\n"
    for text in f'model = {model}', f'{plain}data_preprocessor = {model}':
        with pytest.raises(UserError, match=message):
            check_plain_types(read_config(text, 'a.pth', False), 'a.pth')


@pytest.mark.slow
def test_configs_that_come_along_are_of_plain_types():
    """One of each folder and method."""
    firsts = {(p.parent, p.stem.partition('-')[0]): n for n, p in list_configs().items()}
    assert len(firsts) > 30
    for name in firsts.values():
        cfg = read(list_configs()[name])
        if 'model' in cfg:
            check_plain_types(cfg, name)


@pytest.mark.parametrize('commit', ['be291a913d' * 4, 'unknown', ''])
def test_versions(commit):
    assert split_version(dict(mmengine_version=f'0.10.12{commit}')) == ('0.10.12', commit)


def test_another_log_is_not_lost(trained, publish, tmp_path):
    publish(trained)
    (log,) = (tmp_path / 'zoo').glob('*.log.json')
    publish(trained)  # the same again
    found = {file: file.read_bytes() for file in log.parent.iterdir()}
    log.write_text('{"step": 5}\n')
    said = rf"{log}' is the log of another train.* or under another --name"
    with pytest.raises(UserError, match=said):
        publish(trained)
    changed = {log: b'{"step": 5}\n'}
    assert {file: file.read_bytes() for file in log.parent.iterdir()} == {**found, **changed}
