"""Shares through PoolFormer, against float64."""

from tests.oracles.pyramids import poolformer_labels
from tests.test_alignment import toys
from tests.test_alignment.contract import FamilyContract


class TestPoolFormer(FamilyContract):
    oracle = staticmethod(poolformer_labels)
    size = 32
    variants = [
        dict(),
        dict(size=(20, 28)),  # odd, so that cells of the merging are cut off
        dict(out_indices=[0]),
        dict(out_indices=[1]),  # what is merged, before its stage
        dict(out_indices=[0, 2], pool_size=5),
        dict(down_patch_size=2, down_pad=0),
        dict(embed_dims=(8, 8), out_indices=[1]),  # nothing is merged
        dict(layers=(1, 1, 1), embed_dims=(8, 16, 24), out_indices=[4]),
    ]
    checkpointed = ['network.0.1', 'network.1', 'network.2']
    watched = ()
    modules = ['network.0.0', 'network.0.1.token_mixer', 'network.1']
    refused = [(dict(propagation='contribution'), "'contribution' needs .*PoolFormer")]

    def make(self, layers=(2, 1), embed_dims=(8, 16), **cfg):
        """Two stages after patches of 4 pixels."""
        arch = dict(layers=list(layers), embed_dims=list(embed_dims), layer_scale_init_value=1.0)
        return toys.build(
            'PoolFormer', arch=arch, **(dict(out_indices=[2], frozen_stages=-1) | cfg)
        )
