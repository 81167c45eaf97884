"""Shares through HiViT, against float64."""

from tests.oracles.vits import hivit_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract


class TestHiViT(FamilyContract):
    oracle = staticmethod(hivit_labels)
    size, patch = 32, 8
    variants = [
        dict(),
        dict(rpe=True, ape=False),
        dict(layer_scale_init_value=0.1, patch_norm=False),
        dict(qkv_bias=False, qk_scale=0.5),
        dict(depths=[2]),
        dict(kernel_size=6, pad_size=1),  # the stem overlaps
        dict(size=(24, 40)),
    ]
    checkpointed = ['blocks.0', 'blocks.3', 'blocks.5']  # 0 to 2 come before the main stage
    watched = ('patches',)
    modules = ['blocks.3', 'blocks.4.attn']
    refused = [(dict(attn_drop_rate=0.1), r'blocks\.3\.attn .*dropout 0\.1')]

    def make(self, depths=(1, 4), **cfg):
        """Two stages, patches of 8 pixels with 2 x 2 inner ones.

        The last stage must be deeper than the others together: the host reads
        one list of indices for both.
        """
        arch = dict(embed_dims=32, depths=list(depths), num_heads=2)
        small = dict(patch_size=8, inner_patches=2, img_size=32, out_indices=[-1])
        return toys.build('HiViT', arch=arch, **(small | cfg))

    def test_three_stages(self):
        self.patch = 16
        three = dict(depths=[1, 1, 7], patch_size=16, inner_patches=4, img_size=48, size=48)
        self.test_variant(three)
