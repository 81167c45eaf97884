"""Options that nothing reads are refused, with what was probably meant."""

import re
from functools import reduce
from operator import getitem
from pathlib import Path

import mmengine.runner
import pytest
from mmengine.config import Config

from mmtlalign.commands.checks import check_values
from mmtlalign.commands.unread_keys import READ_BY_HOSTS, merge_options, unread_variables
from mmtlalign.errors import UserError
from mmtlalign.resources import list_configs

from ..tiny import CONFIG


def config(extra=''):
    return Config.fromstring(CONFIG + extra, '.py')


def test_the_table_is_what_the_hosts_look_up():
    folder = Path(mmengine.runner.__file__).parent
    found = set()
    for name in ('runner.py', '_flexible_runner.py'):
        text = (folder / name).read_text()
        found.update(re.findall(r"\b(?:self\.)?cfg\.get\(\s*'(\w+)'", text))
        found.update(re.findall(r"\bcfg\['(\w+)'\]", text))
    found |= {'custom_imports', 'runner_type'}  # Config, RUNNERS
    assert len(found) > 30
    # of nested dicts that happen to be called cfg, nothing is among them
    assert READ_BY_HOSTS == found


@pytest.mark.parametrize(
    'option, near',
    [
        ('optimizer.lr', 'optim_wrapper.optimizer.lr'),
        ('optim_wraper.optimizer.lr', 'optim_wrapper.optimizer.lr'),
        ('lr', 'optim_wrapper.optimizer.lr'),
        ('model.backbone.drop_pth_rate', 'model.backbone.drop_path_rate'),
        ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
        ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('optim_wrapper.acumulative_counts', 'optim_wrapper.accumulative_counts'),
        ('optim_wrapper.paramwise_cfg.norm_decay', 'optim_wrapper.paramwise_cfg.norm_decay_mult'),
        ('randomness.sed', 'randomness.seed'),
        ('auto_scale_lr.base_batchsize', 'auto_scale_lr.base_batch_size'),
        ('train_dataloader.dataset.pipeline.1.paddin', '.dataset.pipeline.1.padding'),
        ('env_cfg.dist_cfg.time_out', 'env_cfg.dist_cfg.timeout'),
        ('custom_hooks.0.interval', None),
    ],
)
def test_what_nothing_reads_is_refused(option, near):
    cfg = config('auto_scale_lr = dict()\nenv_cfg = dict(dist_cfg=dict())')
    before = cfg.to_dict()
    with pytest.raises(UserError) as error:
        merge_options(cfg, {option: 1})
    said = str(error.value)
    assert said.startswith(f'--cfg-options {option}: ')
    assert near is None or f'{near} ' in said
    assert cfg.to_dict() == before
    merge_options(cfg, {option: 1}, allow_unread=True)
    assert cfg.to_dict() != before


def test_a_variable_that_was_expanded_is_named_as_such():
    steps = "steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=16)]\n"
    cfg = config(steps + "train_dataloader['dataset']['pipeline'] = steps\n")
    said = (
        "steps.1.scale: 'steps' is a variable that the config has expanded already, .*; the "
        r'nearest that is read is train_dataloader\.dataset\.pipeline\.1\.scale'
    )
    with pytest.raises(UserError, match=said):
        merge_options(cfg, {'steps.1.scale': (30, 30)})


READ = """
model.backbone.drop_path_rate model.backbone.init_cfg.checkpoint model.backbone.arch.num_layers
model.backbone.layer_cfgs.a optim_wrapper.clip_grad.max_norm optim_wrapper.accumulative_counts
param_scheduler.eta_min train_cfg.val_begin train_dataloader.persistent_workers
train_dataloader.dataset.metainfo.classes default_hooks.checkpoint.max_keep_ckpts
visualizer.name randomness.deterministic load_from compile log_level tta_model.type
""".split()


def test_what_is_read_is_merged_without_a_word(capsys):
    cfg = config()
    merge_options(cfg, dict.fromkeys(READ, 1))
    for option in READ:
        assert reduce(getitem, option.split('.'), cfg) == 1, option
    assert capsys.readouterr().out == ''
    for option in ('train_dataloader.dataset.pipeline.9.scale', 'model.type.a'):
        with pytest.raises(UserError, match=f'{option} has no place in '):
            merge_options(cfg, {option: 1})


@pytest.mark.slow
def test_variables_of_configs_are_not_warned_of():
    firsts = {path.parent: path for path in list_configs().values()}
    assert len(firsts) > 10
    for path in firsts.values():
        cfg = Config.fromfile(path)
        check_values(cfg)
        assert not unread_variables(cfg), path


def test_settings_of_older_hosts_are_warned_of():
    cfg = config(
        "optimizer = dict(type='SGD', lr=.3)\nlr_config = 'step'\n"
        'train_dataloder = dict(batch_size=9)\nscale = (1, 2)\n'
    )
    assert unread_variables(cfg) == dict(
        optimizer='optim_wrapper.optimizer',
        lr_config='param_scheduler',
        train_dataloder='train_dataloader',
    )
