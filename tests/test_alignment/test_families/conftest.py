"""What a test class of a family lists is tried one by one; the first variant is the quick one."""

import pytest


def pytest_generate_tests(metafunc):
    if 'variant' in metafunc.fixturenames:
        first, *rest = metafunc.cls.variants
        rest = [pytest.param(variant, marks=pytest.mark.slow) for variant in rest]
        metafunc.parametrize('variant', [first, *rest], ids=str)
    if 'refused' in metafunc.fixturenames:
        metafunc.parametrize('refused', metafunc.cls.refused, ids=str)
