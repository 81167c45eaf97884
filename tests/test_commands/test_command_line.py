import argparse
import os

import pytest

from mmtlalign.commands.command_line import (
    add_common_arguments,
    check_file,
    load_config,
    make_folder_of,
    make_out_folder,
    make_work_dir,
)
from mmtlalign.errors import UserError


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'name.py'
    path.write_text('a = dict(b=1)\nmodel = dict()\n')
    return path


@pytest.fixture(autouse=True)
def no_rank(monkeypatch):
    # set and taken back, so that what the code sets is taken back too
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('LOCAL_RANK')


def parse(config, *arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_common_arguments(parser)
    return load_config(parser.parse_args([str(config), *arguments]))


def test_defaults(config):
    cfg = parse(config)
    assert (cfg.work_dir, cfg.launcher) == ('work_dirs/name', 'none')


def test_a_config_that_comes_along_is_taken_by_its_name():
    cfg = parse('tlalign_deit-digits_1xb32_digits')
    assert cfg.model.type == 'mmtlalign.TLAlignClassifier'
    assert cfg.work_dir == 'work_dirs/tlalign_deit-digits_1xb32_digits'


def test_the_work_dir_of_the_command_line_goes_before_the_configs(config):
    config.write_text("work_dir = 'mine'\nmodel = dict()\n")
    assert parse(config).work_dir == 'mine'
    assert parse(config, '--work-dir', 'yours').work_dir == 'yours'


def test_options_are_merged_last(config):
    cfg = parse(
        config,
        '--work-dir',
        'yours',
        '--cfg-options',
        'model.b=2',
        'model.c=[(1,2)]',
        'work_dir=ours',
    )
    assert cfg.model == dict(b=2, c=[(1, 2)])
    assert cfg.work_dir == 'ours'


@pytest.mark.parametrize('flag', ['--local-rank=3', '--local_rank=3'])
def test_both_spellings_of_the_local_rank(config, flag, monkeypatch):
    parse(config, flag)
    assert os.environ['LOCAL_RANK'] == '3'
    parse(config, '--local-rank=4')
    assert os.environ['LOCAL_RANK'] == '3'  # that of torchrun goes first


def test_mpi_has_its_own_name_for_the_local_rank(config, monkeypatch):
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '2')
    parse(config)
    assert os.environ['LOCAL_RANK'] == '2'


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(UserError, match="config '.*gone.py' does not exist"):
        parse(tmp_path / 'gone.py')


def test_a_work_dir_that_is_a_file_is_refused(config):
    with pytest.raises(UserError, match="work dir '.*name.py' cannot be made"):
        make_work_dir(str(config))


def test_a_work_dir_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    with pytest.raises(UserError, match='cannot be written'):
        make_work_dir(str(tmp_path / 'new'))


def test_the_folder_of_a_file_is_made_or_refused(config, monkeypatch):
    make_folder_of(config.parent / 'new/deep/a.json')
    assert (config.parent / 'new/deep').is_dir()
    monkeypatch.chdir(config.parent)
    make_folder_of('a.json')
    with pytest.raises(
        UserError, match="folder '.*name.py' cannot be made .*choose another with --out"
    ):
        make_folder_of(config / 'a.json')
    with pytest.raises(UserError, match='choose another with --out'):
        make_out_folder(config)
    with pytest.raises(UserError, match='new.* is a folder; name a file'):
        make_folder_of(config.parent / 'new')


def test_a_missing_file_is_named_and_an_address_is_not_looked_up(config):
    check_file(str(config), 'checkpoint')
    check_file('https://example.com/a.pth', 'checkpoint')
    with pytest.raises(UserError, match="checkpoint 'gone' does not exist"):
        check_file('gone', 'checkpoint')
