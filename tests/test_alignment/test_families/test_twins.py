"""Shares through PCPVT and SVT, against a dense oracle."""

from tests.oracles.windows import twins_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract

ARCH = dict(
    embed_dims=[16, 32],
    depths=[2, 2],
    num_heads=[1, 2],
    patch_sizes=[4, 2],
    strides=[4, 2],
    mlp_ratios=[2, 2],
    sr_ratios=[2, 1],
)


class TestPCPVT(FamilyContract):
    oracle = staticmethod(twins_labels)
    exact = False
    size = 24
    name, arch = 'PCPVT', ARCH
    variants = [
        dict(size=(24, 32)),  # windows are padded on one side: the host's mask is empty
        dict(size=(27, 39)),  # padded on both; not even whole patches
        dict(out_indices=(0,)),
        dict(out_indices=(0, 1), qkv_bias=True, norm_after_stage=True),
        # overlapping embeddings; the last row is left out of the keys
        dict(arch=dict(sr_ratios=[4, 2], patch_sizes=[5, 3]), size=(28, 40)),
    ]
    checkpointed = ['stages.0.0', 'stages.1.1']
    watched = ('patches',)
    modules = ['patch_embeds.1', 'stages.0.0', 'stages.0.0.attn', 'stages.1.1', 'stages.1.1.attn']
    refused = [
        (dict(attn_drop_rate=0.3), '^stages.0.0.attn has attention dropout 0.3'),
        (dict(out_indices=(1, 3)), 'asks for 3, but'),
        (dict(propagation='contribution'), 'needs projection, residual, values where .* mixes'),
        (dict(arch=dict(sr_ratios=[2, 2]), watch='patches'), 'needs attention over all tokens'),
    ]

    def make(self, arch=(), **cfg):
        """Two stages of two blocks; windows of 3 and 2 tokens in SVT."""
        return toys.build(self.name, arch=self.arch | dict(arch), **(dict(out_indices=(1,)) | cfg))


class TestSVT(TestPCPVT):
    name, arch = 'SVT', ARCH | dict(window_sizes=[3, 2])
