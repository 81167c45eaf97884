import os

import pytest

from mmtlalign.commands.command_line import (
    add_common_arguments,
    check_file,
    load_config,
    make_folder_of,
    make_out_folder,
    new_parser,
)
from mmtlalign.errors import UserError


@pytest.fixture
def config(tmp_path, monkeypatch):
    # set and taken back, so that what the code sets is taken back too
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('LOCAL_RANK')
    path = tmp_path / 'name.py'
    path.write_text('a = dict(b=1)\nmodel = dict()\n')
    return path


def parse(config, *arguments):
    parser = new_parser('')
    parser.add_argument('config')
    add_common_arguments(parser)
    return load_config(parser.parse_args([str(config), *arguments]))


def test_the_work_dir_of_the_command_line_goes_before_the_configs(config):
    cfg = parse(config)
    assert (cfg.work_dir, cfg.launcher) == ('work_dirs/name', 'none')
    config.write_text("work_dir = 'mine'\nmodel = dict()\n")
    assert parse(config).work_dir == 'mine'
    assert parse(config, '--work-dir', 'yours').work_dir == 'yours'
    cfg = parse('tlalign_deit-digits_1xb32_digits')
    assert cfg.work_dir == 'work_dirs/tlalign_deit-digits_1xb32_digits'
    options = ['--cfg-options', 'model.b=2', 'model.c=[(1,2)]', 'work_dir=ours']
    cfg = parse(config, '--work-dir', 'yours', *options)  # options are merged last
    assert (cfg.model, cfg.work_dir) == (dict(b=2, c=[(1, 2)]), 'ours')


def test_the_local_rank_of_launchers(config, monkeypatch):
    parse(config, '--local_rank=3')
    parse(config, '--local-rank=4')
    assert os.environ['LOCAL_RANK'] == '3'  # that of torchrun goes first
    monkeypatch.delenv('LOCAL_RANK')
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '2')
    parse(config)
    assert os.environ['LOCAL_RANK'] == '2'


def test_a_folder_is_made_or_refused(config, tmp_path, monkeypatch):
    make_folder_of(tmp_path / 'new/deep/a.json')
    assert (tmp_path / 'new/deep').is_dir()
    monkeypatch.chdir(tmp_path)
    make_folder_of('a.json')
    with pytest.raises(UserError, match='name.py.* cannot be made .*choose another with --out'):
        make_out_folder(config)
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    with pytest.raises(UserError, match='cannot be written'):
        make_out_folder(tmp_path / 'new')


def test_an_address_is_not_looked_up():
    check_file('https://example.com/a.pth', 'checkpoint')
