"""Configs of data sets, and the line that refuses one."""

import pytest
from mmengine.config import Config

from mmtlalign.commands.checks import check_data
from mmtlalign.errors import UserError


def config(scope='mmpretrain', model={}, **datasets):
    """With the data sets of the phases that take place."""
    loaders = {f'{phase}_dataloader': dict(dataset=data) for phase, data in datasets.items()}
    loops = {f'{phase}_cfg': dict() for phase in datasets}
    return Config(dict(default_scope=scope, model=model, **loaders, **loops))


def refused(cfg, *phases, **options):
    """What is said of data that are refused, of the training's if no phases are given."""
    with pytest.raises(UserError) as error:
        check_data(cfg, *(phases or ('train',)), **options)
    assert '\n' not in str(error.value)
    return str(error.value)
