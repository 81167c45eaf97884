"""No recipe that is shipped is refused for its own classes."""

import pytest

from mmtlalign.commands.checks.class_names import numbered_parts, stated_classes
from mmtlalign.commands.checks.data_check import find_leaves
from mmtlalign.commands.own_loaders import use_own_loaders
from mmtlalign.host_check import check_host

from ..conftest import needs_operators
from .recipes import read, tracked


@pytest.mark.slow
def test_heads_are_for_the_classes_of_the_data():
    for path in tracked('configs'):
        if 'classification' not in path:
            needs_operators()
        cfg = read(path)
        check_host(cfg)
        use_own_loaders(cfg)
        leaves = [leaf for phase in ('train', 'val', 'test') for leaf in find_leaves(cfg, phase)]
        assert leaves and all(leaf.cls is not None for leaf in leaves), path
        named = [stated_classes(leaf.dataset, leaf.cls) for leaf in leaves]
        classes = {tuple(names) for names in named if names is not None}
        counts = {count for _, count in numbered_parts(cfg)}
        assert len(classes) <= 1 and len(counts) <= 1, path
        assert all(counts <= {len(names)} for names in classes), path
