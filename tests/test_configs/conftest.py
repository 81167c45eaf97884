"""Imports wait for a test: pytest reads this file, too, where no test runs."""

import pytest


@pytest.fixture
def load():
    """Read a config and stay in the scope it names, as the tools do."""
    from contextlib import ExitStack

    from mmengine.registry import DefaultScope
    from mmpretrain.utils import register_all_modules

    from .recipes import read

    def load_config(path):
        config = read(path)
        stack.enter_context(DefaultScope.overwrite_default_scope(config.default_scope))
        return config

    register_all_modules(init_default_scope=False)
    with ExitStack() as stack:
        yield load_config


@pytest.fixture(scope='session')
def jpegs(tmp_path_factory):
    """A folder of photograph-like JPEGs, 300x260 and 32x32 pixels, each with
    a store of its token labels."""
    from .recipes import write_jpegs

    return write_jpegs(tmp_path_factory.mktemp('jpegs'))
