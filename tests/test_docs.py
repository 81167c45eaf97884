"""docs/use_in_your_project.md, run block by block by a reader of it."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from safetensors.torch import load_file
from torch.nn import functional as F

from mmtlalign.alignment import families, propagation
from mmtlalign.registry import BATCH_AUGMENTS
from mmtlalign.registry import MODELS as OUR_MODELS
from projects.reliability.tasks import DETECTOR, SEGMENTER, write_scenes
from tests.oracle import dense_labels
from tests.oracles.vits import flat_labels, global_attention
from tests.test_alignment import toys

from .conftest import needs_operators

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'use_in_your_project.md').read_text()
SECTIONS = dict(re.findall(r'^## \((\w)\) (.*?)(?=^## |\Z)', PAGE, flags=re.DOTALL | re.MULTILINE))


def blocks(letter):
    """The fenced blocks of a section: [(language, text), ...]."""
    return re.findall(r'^```(\w+)\n(.*?)^```$', SECTIONS[letter], flags=re.DOTALL | re.MULTILINE)


def file_of(text):
    """The file that a block is, or is about, if it begins with its name."""
    found = re.match(r' ?# (\S+\.py)\n', text)
    return found and Path(found[1])


def sides(diff):
    """What a diff takes out and puts in, without the line of the file."""
    lines = diff.splitlines()[1:]
    return ['\n'.join(line[1:] for line in lines if line[0] in kinds) for kinds in (' -', ' +')]


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Follow a section in an empty folder, as a reader does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv('PATH', str(Path(sys.executable).parent), prepend=os.pathsep)

    def follow(letter, names=None, execute=True):
        """Write the files of a section, and run the rest in ``names``."""
        names = {} if names is None else names
        for language, text in blocks(letter):
            file = file_of(text)
            if language == 'diff':
                old, new = sides(text)
                assert file.read_text().count(old) == 1
                file.write_text(file.read_text().replace(old, new))
            elif file:
                file.write_text(text)
            elif execute and language == 'bash':
                subprocess.run(['bash', '-ec', text], check=True)
            elif execute and language == 'python':
                exec(text, names)
        return names

    yield follow
    # What the files of the page registered goes with them.
    for file in tmp_path.glob('*.py'):
        sys.modules.pop(file.stem, None)
        registries = (BATCH_AUGMENTS, OUR_MODELS, MMENGINE_MODELS)
        tables = [registry.module_dict for registry in registries]
        for table in (families._FAMILIES, propagation._PROPAGATIONS, *tables):
            for key, value in list(table.items()):
                if value.__module__ == file.stem:
                    del table[key]


def build(cfg):
    """The classifier of a config."""
    return MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))


def noise(size=64, labels=(0, 1, 1, 0)):
    """A batch of a loader."""
    samples = [DataSample().set_gt_label(label) for label in labels]
    return dict(inputs=torch.randint(0, 256, (4, 3, size, size)), data_samples=samples)


def test_every_block_is_of_a_kind_that_is_run_or_compared():
    kinds = {letter: [kind for kind, _ in blocks(letter)] for letter in SECTIONS}
    assert kinds == dict(
        a=['python', 'python', 'diff', 'python', 'text'],
        b=['python', 'text'],
        c=['python', 'bash', 'python', 'text'],
        d=['python', 'python', 'python', 'python'],
        e=['python', 'python', 'diff'],
        f=['python', 'python', 'diff'],
    )
    assert PAGE.count('```') == 2 * sum(map(len, kinds.values()))


@pytest.mark.slow
def test_a_config_of_mmpretrain_by_two_lines(follow):
    assert dict(blocks('a'))['diff'].count('\n+') == 2
    follow('a')

    (log,) = Path('work_dirs/mine').glob('*/vis_data/scalars.json')
    steps = [json.loads(line) for line in log.read_text().splitlines() if 'loss' in line]
    printed = re.findall(r'(\w+):', dict(blocks('a'))['text'])
    assert len(steps) == 3 and len(printed) == 4
    assert all(set(printed) <= set(step) for step in steps)

    # The checkpoint is one of the unchanged config.
    (text,) = (text for _, text in blocks('a') if text.startswith('# mine.py'))
    Path('unchanged.py').write_text(text)
    stock = build(Config.fromfile('unchanged.py'))
    assert type(stock) is ImageClassifier
    saved = torch.load('work_dirs/mine/epoch_1.pth', weights_only=False)
    stock.load_state_dict(saved['state_dict'])


STOCK = {
    'VisionTransformer': 'deit/deit-small_4xb256_in1k',
    'DeiT3': 'deit3/deit3-small-p16_64xb64_in1k',
    'SwinTransformer': 'swin_transformer/swin-tiny_16xb64_in1k',
    'SwinTransformerV2': 'swin_transformer_v2/swinv2-tiny-w8_16xb64_in1k-256px',
}


@pytest.mark.slow
def test_a_table_of_patch_sizes_fits_stock_configs():
    rows = re.findall(r'^\| (`.*?) \| (\d+)', SECTIONS['a'], flags=re.MULTILINE)
    sizes = {name: int(size) for row, size in rows for name in re.findall('`(.+?)`', row)}
    assert sizes.keys() == STOCK.keys()
    for name, size in sizes.items():
        backbone = get_config(f'mmpretrain::{STOCK[name]}.py').model.backbone
        assert backbone.type == name
        projection = MODELS.build(backbone).patch_embed.projection
        assert projection.kernel_size == (size, size)


@pytest.mark.slow
def test_b_plain_loop(follow, monkeypatch, capsys):
    names, differences = {}, []
    stock = F.cross_entropy

    def watched(scores, target):
        """Compare a target while the weights are those it was made with."""
        record, own = names['record'], torch.eye(10, dtype=torch.float64)[names['labels']]
        tokens = toys.to_labels(record.token_share, own, own.flip(0))
        expected = dense_labels(names['backbone'], names['mixed'], tokens)[1]
        torch.testing.assert_close(target.double(), expected, rtol=0, atol=1e-5)
        differences.append((names['trace'].output_share - record.lam).abs().max())
        return stock(scores, target)

    monkeypatch.setattr(F, 'cross_entropy', watched)
    follow('b', names)
    assert len(differences) == 3 and max(differences) > 1e-3
    pattern = re.sub(r'\d+', r'\\d+', re.escape(dict(blocks('b'))['text']))
    assert len(re.findall(pattern, capsys.readouterr().out)) == 3


def one_step(file, task):
    """The runner of a config after an epoch at rate 0 on the data of a task, without a GPU."""
    cfg = Config.fromfile(file)
    cfg.work_dir = file.replace('.py', '')
    cfg.train_dataloader = Config.fromstring(task, '.py').train_dataloader
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=False)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0))
    cfg.param_scheduler = None
    cfg.default_hooks = dict(checkpoint=None)
    for kind in ('val', 'test'):
        for part in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'{kind}_{part}'] = None
    for head in {'decode_head', 'auxiliary_head'} & cfg.model.keys():
        cfg.model[head].norm_cfg.type = 'BN'
        cfg.model.data_preprocessor.size = (64, 64)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    return runner


@pytest.mark.slow
def test_c_backbone_of_a_detector_and_a_segmenter(follow):
    needs_operators()
    follow('c')
    write_scenes(Path())
    Path('path/to').mkdir(parents=True)
    Path('path/to/mmtlalign').symlink_to(ROOT)
    (file,) = set(re.findall(r"'(path/to/.*)'", PAGE))
    pretrained = {
        key.removeprefix('backbone.'): value.float()
        for key, value in load_file(file).items()
        if 'backbone.' in key
    }
    printed = dict(blocks('c'))['text'].split('Weights of ')[1:]
    for name, task in (('detector', DETECTOR), ('segmenter', SEGMENTER)):
        runner = one_step(f'{name}.py', task)
        arrived = runner.model.backbone.state_dict()
        assert pretrained.keys() <= arrived.keys()
        for key, value in pretrained.items():
            assert torch.equal(arrived[key].float(), value), key
        (log,) = Path(runner.work_dir).glob('*/*.log')
        log = ' '.join(log.read_text().split())
        for line in printed:
            assert ' '.join(line.split()) in log


def test_d_family_of_another_backbone(follow, capsys):
    follow('a', execute=False)
    names = follow('d')
    assert 'torch.Size([2, 16])' in capsys.readouterr().out
    backbone, images = toys.fill(names['backbone']), names['images']
    token_share = toys.shares()
    with names['trace'](token_share):
        feats = backbone(images)
    assert torch.equal(feats[0], backbone(images)[0])
    twin = copy.deepcopy(backbone).double()
    layers = [block.attn for block in twin.blocks]
    with torch.no_grad():
        expected = flat_labels(
            twin, images.double(), token_share[..., None].double(), layers, global_attention
        )
    expected = [share[..., 0] for share in expected]
    for share, exact in zip(names['trace'].block_shares, expected, strict=True):
        torch.testing.assert_close(share.double(), exact, rtol=0, atol=2e-6)
    output = expected[-1].mean(1)
    torch.testing.assert_close(names['trace'].output_share.double(), output, rtol=0, atol=2e-6)
    assert (output - token_share.mean((1, 2))).abs().max() > 1e-3

    model = build(Config.fromfile('own.py'))
    assert type(model.backbone).__name__ == 'MyTransformer'
    assert type(model.trace.family).__name__ == 'MyFamily'


def test_f_another_way_to_label(follow):
    follow('a', execute=False)
    follow('f')
    model = build(Config.fromfile('mine.py'))
    model.trace.record = True
    batch = model.data_preprocessor(noise(224), training=True)
    # the first block moves a tenth of the way to even attention
    with torch.no_grad():
        model.backbone.layers[0].attn.qkv.weight.zero_()
        model.backbone.layers[0].attn.qkv.bias.zero_()
    assert model(**batch, mode='loss')['loss'].isfinite()
    start = batch['mix'].token_share.flatten(1)
    mean = start.mean(1, keepdim=True)
    torch.testing.assert_close(model.trace.block_shares[0][:, 1:], 0.9 * start + 0.1 * mean)
    # and the logged share lies between the area and the share that arrives
    share = model.target.share(batch['mix'], model.trace, None, None)
    torch.testing.assert_close(share, (batch['mix'].lam + model.trace.output_share) / 2)


def test_one_file_each_for_family_propagation_mask_and_target(follow):
    """All of the page's parts of a stranger's train a step together."""
    follow('a', execute=False)
    for letter in 'def':
        follow(letter, execute=False)
    cfg = Config.fromfile('own.py')
    cfg.model.train_cfg.augments = [dict(type='mmtlalign.PatchMix', patch_size=16)]
    cfg.model.target = dict(type='mmtlalign.HalfwayTarget')
    for name in ('patch_mix', 'halfway'):
        __import__(name)
    model = build(cfg)
    assert type(model.trace.propagation).__name__ == 'Careful'
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    before = copy.deepcopy(model.state_dict())
    assert model.train_step(noise(), optim)['loss'].isfinite()
    after = model.state_dict()
    moved = {key.split('.')[0] for key in before if not torch.equal(after[key], before[key])}
    assert moved >= {'backbone', 'head'}


def test_e_mixing_method(follow):
    follow('a', execute=False)
    names = follow('e')
    mix, images = names['mix'], names['images']
    lams = set()
    for seed in range(5):
        mix.seed(seed)
        record = mix.draw(images)
        assert record.partner.tolist() == [3, 2, 1, 0]
        assert record.token_share.shape == (4, 4, 4)
        torch.testing.assert_close(record.lam, record.token_share.mean((1, 2)))
        lams.add(record.lam[0].item())
        own = record.token_share.kron(torch.ones(1, 8, 8))[:, None] > 0
        assert torch.equal(mix.apply(images, record), images.where(own, images.flip(0)))
    assert len(lams) > 2 and all(0 < lam < 1 for lam in lams)

    assert Config.fromfile('mine.py').custom_imports.imports == ['patch_mix']
