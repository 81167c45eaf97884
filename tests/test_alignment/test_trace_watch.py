"""What the class token, or the patches, of the last block attend to."""

import copy

import pytest
import torch

from mmtlalign.alignment import LabelTrace
from tests.oracles import contribution
from tests.test_alignment import toys
from tests.test_alignment.checks import assert_same


def last_matrix(backbone, images):
    """Head mean (B, N, N) in the block that is read, from the weights."""
    last = max(getattr(backbone, 'out_indices', [-1]))
    with torch.no_grad():
        step = contribution.steps(copy.deepcopy(backbone).double(), images.double())[last]
    return step.keywords['matrix'].mean((1, 2))


BACKBONES = {
    'vit': (toys.vit, 1),
    'an earlier block': (lambda: toys.vit(out_indices=[0, 1]), 1),
    'patches read': (lambda: toys.vit(out_type='avg_featmap'), 1),
    'distilled': (lambda: toys.vit('DistilledVisionTransformer'), 2),
    'no class token': (lambda: toys.vit(with_cls_token=False, out_type='avg_featmap'), 0),
    'timm': (lambda: toys.timm_vit(reg_tokens=2), 3),
    'timm, eager': (lambda: toys.timm_vit(fused=False), 1),
    'torchvision': (toys.torchvision_vit, 1),
}


@pytest.mark.parametrize('keep, propagation', [(True, 'contribution'), (False, 'tlalign')])
@pytest.mark.parametrize(
    'name, watch',
    [
        (name, watch)
        for name, (_, extra) in BACKBONES.items()
        for watch in ('class', 'patches')
        if extra or watch == 'patches'
    ],
)
def test_rows_of_the_last_matrix(name, watch, keep, propagation):
    make, extra = BACKBONES[name]
    backbone, images, share = make(), toys.images(), toys.shares()
    matrix = last_matrix(backbone, images)
    rows = matrix[:, 0] if watch == 'class' else matrix[:, extra:].mean(1)
    plain = LabelTrace(backbone, keep, propagation)
    trace = LabelTrace(backbone, keep, propagation, watch)
    for each in (plain, trace):
        with each(share), torch.no_grad():
            backbone(images)
    assert trace.attention.dtype == torch.float32
    assert_same(trace.attention.double(), rows[:, extra:], 2e-6)
    assert torch.equal(trace.output_share, plain.output_share)


def test_one_row_where_only_that_is_read():
    backbone, images, share = toys.vit(), toys.images(), toys.shares()
    for keep, rows in ((True, 17), (False, 1)):
        for propagation in ('tlalign', 'contribution'):
            trace = LabelTrace(backbone, keep, propagation)
            with trace(share):
                backbone(images)
                assert trace.family.output.share.shape == (2, rows)
            with pytest.raises(ValueError, match="watch='class'"):
                trace.attention
