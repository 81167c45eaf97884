"""What is refused, and that docs/backbones.md says of all what is true."""

import re
from pathlib import Path

import mmpretrain.models.backbones
import pytest

from mmtlalign.alignment import LabelTrace, refused_backbones, supported_backbones
from tests.test_alignment import toys

PAGE = Path(__file__).parents[3] / 'docs/backbones.md'
REFUSED = {
    name.partition('.')[2]: reason
    for name, reason in refused_backbones().items()
    if name.startswith('mmpretrain.')
}


@pytest.mark.parametrize('name', REFUSED)
def test_backbone_is_refused_with_its_reason(name):
    cls = getattr(mmpretrain.models.backbones, name)
    with pytest.raises(TypeError) as error:
        LabelTrace(cls.__new__(cls))  # its class alone decides
    assert str(error.value) == f'{name} is refused: {REFUSED[name]}.'


def rows():
    """Names, verdict, reason and mark of each row of the page's tables."""
    found = []
    for line in PAGE.read_text().splitlines():
        if line.startswith('| `'):
            names, verdict, reason = line.strip('| ').split(' | ')
            found.append((re.findall(r'`([\w.]+)`', names), verdict, reason, names.endswith('*c*')))
    return found


def listed(*verdicts):
    """Names with one of the verdicts, with their package."""
    return sorted(
        name if '.' in name else f'mmpretrain.{name}'
        for names, verdict, *_ in rows()
        for name in names
        if verdict in verdicts
    )


def test_page_lists_every_backbone_of_the_host_once():
    names = [
        name.partition('.')[2]
        for name in listed('supported', 'refused', 'unknown')
        if name.startswith('mmpretrain.')
    ]
    assert names == sorted(mmpretrain.models.backbones.__all__)


def test_page_lists_what_is_supported():
    assert listed('supported') == supported_backbones()


def test_page_gives_the_reasons():
    found = {
        name: reason
        for names, verdict, reason, _ in rows()
        for name in names
        if verdict == 'refused'
    }
    assert found == REFUSED


@pytest.mark.parametrize(
    'name', [name for names, *_, mark in rows() for name in names if mark and '.' not in name]
)
def test_marked_backbones_offer_contributions(name):
    build = toys.swin if name.startswith('Swin') else toys.vit
    LabelTrace(build(name), propagation='contribution')
