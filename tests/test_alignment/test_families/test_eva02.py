"""Shares through EVA-02, against float64."""

from tests.oracles.vits import eva02_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract, assert_family


class TestEVA02(FamilyContract):
    oracle = staticmethod(eva02_labels)
    variants = [
        dict(),
        dict(out_type='avg_featmap', sub_ln=True),
        dict(out_type='featmap', out_indices=[0, 1]),
        dict(out_type='raw', qkv_bias=False),
        dict(out_type='raw', with_cls_token=False),
        dict(layer_cfgs=dict(rope=None, qk_scale=0.5)),
    ]
    checkpointed = ['layers.0', 'layers.2']
    modules = ['layers.0', 'layers.1.attn']
    refused = [
        (dict(attn_drop_rate=0.1), r'layers\.0\.attn .*dropout 0\.1'),
        (dict(propagation='contribution'), "'contribution' needs .*ViTEVA02"),
    ]

    def make(self, **cfg):
        return toys.vit('ViTEVA02', **cfg)

    def test_image_of_another_size(self):
        backbone, (images, share) = self.make(), self.inputs((12, 23))
        backbone(images)  # the host now keeps the angles of this size
        assert_family(backbone, images, share, self.oracle)
