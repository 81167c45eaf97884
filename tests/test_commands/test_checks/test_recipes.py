"""No recipe that comes along is refused for its own classes."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmtlalign.commands.checks.class_names import numbered_parts, stated_classes
from mmtlalign.commands.checks.data_check import find_leaves
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.host_check import check_host
from mmtlalign.resources import list_configs

from ...conftest import needs_operators

CONFIGS = list_configs()


@pytest.mark.parametrize('name', sorted(CONFIGS))
def test_heads_are_for_the_classes_of_the_data(name):
    if 'classification' not in Path(CONFIGS[name]).parts:
        needs_operators()
    cfg = Config.fromfile(CONFIGS[name])
    check_host(cfg)
    use_own_loaders(cfg)
    leaves = [leaf for phase in ('train', 'val', 'test') for leaf in find_leaves(cfg, phase)]
    assert leaves and all(leaf.cls is not None for leaf in leaves)
    classes = {
        tuple(names)
        for names in (stated_classes(leaf.dataset, leaf.cls) for leaf in leaves)
        if names is not None
    }
    assert len(classes) <= 1
    counts = {count for _, count in numbered_parts(cfg)}
    assert len(counts) <= 1
    for names in classes:
        assert counts <= {len(names)}
