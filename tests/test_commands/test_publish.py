"""tools/publish_model.py, on a training whose weights are known."""

import hashlib
import json
import re

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from mmtlalign.checkpoint import publishing
from mmtlalign.checkpoint.plain_types import check_plain_types
from mmtlalign.commands import publish as publish_model
from mmtlalign.errors import UserError
from mmtlalign.registry import MODELS
from mmtlalign.resources import list_configs, open_config

from ..tiny import ROOT, run_tool, write_project


@MODELS.register_module()
class Falling(BaseModel):
    """Every step of SGD with rate 1 takes 1 from its only weight."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(1, 1, bias=False)
        self.head = nn.Linear(1, 1)
        nn.init.zeros_(self.backbone.weight)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(
            loss=self.backbone.weight.sum()
            + 0 * sum(weight.sum() for weight in self.head.parameters())
        )


class Nothing(Dataset):
    """Two samples."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(1))


@pytest.fixture
def train(tmp_path):
    """Train for two steps; return the checkpoint's path."""

    def train(*hooks):
        runner = Runner(
            model=dict(type='mmtlalign.Falling'),
            work_dir=str(tmp_path / 'falling'),
            train_dataloader=dict(
                batch_size=1,
                num_workers=0,
                dataset=Nothing(),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
            custom_hooks=list(hooks),
            randomness=dict(seed=7),
            experiment_name='falling' + re.sub(r'\W', '', str(tmp_path)),
            cfg=dict(model=dict(type='mmtlalign.Falling')),
        )
        runner.train()
        return tmp_path / 'falling/epoch_1.pth'

    return train


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Run the tool in this process; return what the two files hold."""

    def publish(checkpoint, *arguments):
        monkeypatch.setattr(
            'sys.argv', ['publish_model.py', str(checkpoint), str(tmp_path / 'zoo'), *arguments]
        )
        publish_model.main()
        found = {}
        (log,) = (tmp_path / 'zoo').glob('falling_*.log.json')
        for path in set((tmp_path / 'zoo').iterdir()) - {log}:
            stem, digest = path.stem.rsplit('-', 1)
            assert re.fullmatch(r'falling_\d{8}', stem)
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


EMA = dict(type='EMAHook', momentum=0.5)


@pytest.mark.parametrize(
    'hooks, arguments, weight, called',
    [
        ([], [], -2.0, 'last step'),
        # the average starts at the weight after one step, -1
        ([EMA], [], (-1.0 + -2.0) / 2, 'average'),
        ([EMA], ['--raw'], -2.0, 'last step'),
    ],
)
def test_average_and_last_step(train, publish, hooks, arguments, weight, called):
    published = publish(train(*hooks), *arguments)
    assert set(published['state_dict']) == {'backbone.weight', 'head.weight', 'head.bias'}
    assert published['state_dict']['backbone.weight'].item() == weight
    meta = published['meta']
    assert meta['weights'] == called
    assert (meta['seed'], meta['epoch'], meta['iter']) == (7, 1, 2)
    assert "type='mmtlalign.Falling'" in meta['config']
    assert meta['command'] == 'python tools/train.py falling.py'
    assert 'no config of this name' in meta['beyond_command']


def test_backbone_in_half_precision_with_results(train, publish, tmp_path):
    (tmp_path / 'results.json').write_text('{"accuracy/top1": 51.24, "time": 0.1, "ok": true}')
    published = publish(
        train(), '--backbone-only', '--half', '--metrics', str(tmp_path / 'results.json')
    )
    ((key, weight),) = published['state_dict'].items()
    assert (key, weight.item(), weight.dtype) == ('backbone.weight', -2.0, torch.float16)
    assert published['meta']['metrics'] == {'accuracy/top1': 51.24}


def edit(path, change):
    checkpoint = torch.load(path, weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, path)


@pytest.mark.parametrize(
    'change, arguments, message',
    [
        (
            lambda c: c['state_dict']['head.weight'].fill_(torch.nan),
            [],
            r'head\.weight is not finite',
        ),
        (
            lambda c: c['state_dict']['head.weight'].fill_(1e6),
            ['--half'],
            r'head\.weight is too large .* leave out --half',
        ),
        (
            lambda c: c['state_dict'].pop('head.bias'),
            [],
            r'1 keys missing in the file \(first: head\.bias\)',
        ),
        (lambda c: c['meta'].pop('cfg'), [], 'does not hold the config'),
        (lambda c: None, ['--raw'], 'without an EMAHook .* leave out --raw'),
        (lambda c: None, ['--metrics', 'gone.json'], "'gone.json' does not"),
        (lambda c: None, ['--metrics', str(ROOT / 'README.md')], 'is no JSON'),
        (lambda c: None, ['--name', 'a/b'], "name 'a/b' may hold letters"),
        (
            lambda c: c.update(ema_state_dict=c['state_dict']),
            ['--raw'],
            r'lacks 3 of 3 weights of the last step \(first: module\.\w.* --raw',
        ),
        (lambda c: c['meta'].update(time=5), [], r'meta\.time is 5, not a string'),
        (lambda c: c['meta'].update(legs=[5]), [], r'meta\.legs is \[5\], not the parts'),
        (
            lambda c: c['meta'].update(mmengine_version=None),
            [],
            r'meta\.mmengine_version is None, not a string; publish one that',
        ),
    ],
)
def test_what_is_not_published(train, publish, tmp_path, change, arguments, message):
    path = train()
    edit(path, change)
    with pytest.raises(UserError, match=message):
        publish(path, *arguments)
    assert not list((tmp_path / 'zoo').glob('*'))


@pytest.mark.parametrize(
    'results, message',
    [
        (
            '[51.24]',
            'a.json. holds a list, not figures by name; give the one that tools/test.py writes',
        ),
        ('[' * 100_000, 'a.json. is no JSON'),
        ('{"mIoU": NaN}', 'a.json.: mIoU is nan, not a finite number; test again'),
    ],
)
def test_results_without_figures_are_refused(tmp_path, results, message):
    (tmp_path / 'a.json').write_text(results)
    with pytest.raises(UserError, match=message):
        publishing.read_metrics(str(tmp_path / 'a.json'))


def test_a_folder_that_cannot_be_made_is_told_first(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setattr(
        'sys.argv', ['publish_model.py', str(tmp_path / 'file'), f'{tmp_path}/file/sub']
    )
    with pytest.raises(
        UserError, match="folder '.*/file/sub' cannot be made .*; choose another with out_dir"
    ):
        publish_model.main()


CODE = "__import__('os').system('touch trace')"
FALLING = "model = dict(type='mmtlalign.Falling')\n"


def test_a_config_that_mmengine_would_rewrite_is_not(train, publish, tmp_path, monkeypatch):
    """It puts environment and base configs into the text, and runs that."""
    path = train()
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'base.py').write_text(CODE)
    edit(
        path,
        lambda c: c['meta'].update(
            cfg=FALLING + f"_base_ = '{tmp_path}/base.py'\n"
            f"""a = '{{{{"$UNSET:\\'}}}}', '+{CODE.replace("'", '"')}#'\n"""
        ),
    )
    publish(path)
    assert not (tmp_path / 'trace').exists()


# A registered type that reads other configs, one that downloads and unpickles,
# one that is none, and one hidden in another's arguments.
@pytest.mark.parametrize(
    'model',
    [
        "dict(type='os.system', command='touch trace')",
        "dict(type='mmpretrain.CLIPGenerator', tokenizer_path='trace')",
        "dict(type='CLIPGenerator', tokenizer_path='trace')",
        "dict(type='mmdet.KnowledgeDistillationSingleStageDetector')",
        "dict(type='mmtlalign.Falling', more=[dict(a=dict(type='os.system'))])",
        "dict(type='mmtlalign.models.Falling')",
        "dict(type='mmtlalign.Gone')",
        "dict(type='evil.ImageClassifier')",
        "dict(type=('os', 'system'))",
    ],
)
def test_only_plain_types_are_built(train, publish, tmp_path, monkeypatch, model):
    path = train()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish_model, 'get_model', None)  # nothing is built
    for cfg in f'model = {model}', f'{FALLING}data_preprocessor = {model}':
        edit(path, lambda c: c['meta'].update(cfg=cfg))
        with pytest.raises(
            UserError,
            match='its model is built of .*, which is none of the types that are known .* --trust',
        ):
            publish(path)
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize(
    'cfg', ["default_scope = 'evil'\n" + FALLING, FALLING.replace('dict(', "dict(_scope_='evil', ")]
)
def test_types_are_looked_up_in_no_other_package(train, publish, tmp_path, monkeypatch, cfg):
    path = train()
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'evil').mkdir()
    (tmp_path / 'evil/registry.py').write_text(f"open('{tmp_path}/trace', 'w')")
    edit(path, lambda c: c['meta'].update(cfg=cfg))
    with pytest.raises(UserError, match="types are looked up in 'evil'"):
        publish(path)
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('config', list_configs())
def test_every_config_that_comes_along_is_of_plain_types(config):
    cfg = open_config(config)
    if 'model' in cfg:
        check_plain_types(cfg, 'a.pth')


def test_trust_runs_it(train, publish, tmp_path, monkeypatch):
    """What the tests above would miss if nothing could have run."""
    path = train()
    monkeypatch.chdir(tmp_path)
    edit(path, lambda c: c['meta'].update(cfg=f'{FALLING}a = {CODE}'))
    publish(path, '--trust')
    assert (tmp_path / 'trace').exists()


@pytest.mark.parametrize(
    'given, commit',
    [
        ('0.10.12' + 'be291a913d' * 4, 'be291a913d' * 4),
        ('0.10.12unknown', 'unknown'),
        ('0.10.12', ''),
    ],
)
def test_versions(train, publish, given, commit):
    path = train()
    edit(path, lambda c: c['meta'].update(mmengine_version=given))
    meta = publish(path)['meta']
    assert meta['versions'] == dict(mmengine='0.10.12', commit=commit)
    assert set(meta['published_with']) == {'mmtlalign', 'torch'}


def test_another_log_is_not_lost(train, publish, tmp_path):
    path = train()
    publish(path)
    (log,) = (tmp_path / 'zoo').glob('*.log.json')
    found = {file: file.read_bytes() for file in log.parent.iterdir()}
    publish(path)  # the same again
    log.write_text('{"step": 5}\n')
    with pytest.raises(
        UserError,
        match=rf"{log}' is the log of another train"
        '.* or under another --name',
    ):
        publish(path)
    assert log.read_text() == '{"step": 5}\n'
    log.write_bytes(found[log])
    assert found == {file: file.read_bytes() for file in log.parent.iterdir()}


def test_a_real_training_from_the_command_line(tmp_path):
    config = write_project(tmp_path, 'train_cfg.update(max_epochs=1)')
    trained = run_tool('train.py', config.name, folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    made = run_tool('publish_model.py', 'work_dirs/tiny/epoch_1.pth', 'zoo', folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (
        len(re.findall(r'^zoo/tiny_\d{8}-[0-9a-f]{8}\.(pth|safetensors) ', made.stdout, re.M)) == 2
    )
    (log,) = (tmp_path / 'zoo').glob('tiny_*.log.json')
    records = list(map(json.loads, log.read_text().splitlines()))
    assert [r['step'] for r in records if 'accuracy/top1' in r] == [1]
    gone = run_tool('publish_model.py', 'gone.pth', 'zoo', folder=tmp_path)
    assert gone.stderr == ("publish_model.py: checkpoint 'gone.pth' does not exist\n")
