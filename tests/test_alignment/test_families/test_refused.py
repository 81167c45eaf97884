"""What is refused, and that docs/backbones.md says of all what is true."""

import re
from pathlib import Path

import mmpretrain.models.backbones
import pytest

from mmtlalign.alignment import LabelTrace, refused_backbones, supported_backbones
from tests.test_alignment import toys

REFUSED = {
    name: reason for name, reason in refused_backbones().items() if name.startswith('mmpretrain.')
}


def rows():
    """Name, verdict, reason and mark of each backbone in the tables of the page."""
    for line in (Path(__file__).parents[3] / 'docs/backbones.md').read_text().splitlines():
        if line.startswith('| `'):
            names, verdict, reason = line.strip('| ').split(' | ')
            for name in re.findall(r'`([\w.]+)`', names):
                name = name if '.' in name else f'mmpretrain.{name}'
                yield name, verdict, reason, names.endswith('*c*')


ROWS = sorted(rows())


@pytest.mark.parametrize('name', REFUSED)
def test_backbone_is_refused_with_its_reason(name):
    cls = getattr(mmpretrain.models.backbones, name.partition('.')[2])
    with pytest.raises(TypeError) as error:
        LabelTrace(cls.__new__(cls))  # its class alone decides
    assert str(error.value) == f'{cls.__name__} is refused: {REFUSED[name]}.'


def test_page_says_of_every_backbone_of_the_host_what_is_true():
    assert {row[1] for row in ROWS} == {'supported', 'refused', 'unknown'}
    assert [row[0] for row in ROWS if row[1] == 'supported'] == supported_backbones()
    assert {row[0]: row[2] for row in ROWS if row[1] == 'refused'} == REFUSED
    listed = [row[0] for row in ROWS if row[0].startswith('mmpretrain.')]
    assert listed == sorted(f'mmpretrain.{name}' for name in mmpretrain.models.backbones.__all__)


@pytest.mark.parametrize(
    'name', [row[0].partition('.')[2] for row in ROWS if row[3] and row[0].startswith('mmpre')]
)
def test_marked_backbones_offer_contributions(name):
    build = toys.swin if name.startswith('Swin') else toys.vit
    LabelTrace(build(name), propagation='contribution')
