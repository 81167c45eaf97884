"""What a traced forward keeps for the backward."""

import pytest
import torch
from mmpretrain.models import SwinTransformer, VisionTransformer

from mmtlalign.alignment import LabelTrace
from tests.test_alignment import toys


def bytes_kept(backbone, size, trace=None):
    """Bytes of the unique storages that one forward saves.

    Parameters do not count. The process's memory on a CPU is far too coarse
    to show such differences.
    """
    skip = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skip:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = toys.images(2, size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        if trace is None:
            features = backbone(images)
        else:
            with trace:
                features = backbone(images)
    # the features hold the graph, so that no storage was used again
    assert features[0].grad_fn is not None
    return sum(storages.values())


def traced_bytes(backbone, size, record=False):
    trace = LabelTrace(backbone, record)
    return bytes_kept(backbone, size, trace(toys.shares(2, trace.grid_of(toys.images(1, size)))))


def vit(**cfg):
    arch = dict(embed_dims=384, num_layers=2, num_heads=6, feedforward_channels=1536)
    return VisionTransformer(arch, **cfg)


def swin(**cfg):
    arch = dict(embed_dims=96, depths=[2, 1], num_heads=[3, 6])
    return SwinTransformer(arch, out_indices=(1,), **cfg)


@pytest.mark.parametrize('make, half', [(vit, False), (swin, False), (vit, True)])
def test_as_much_as_stock(make, half):
    backbone = make(img_size=112, drop_path_rate=0.1)
    with torch.autocast('cpu', torch.bfloat16, enabled=half):
        stock = bytes_kept(backbone, 112)
        assert stock > 1e6
        assert traced_bytes(backbone, 112) <= 1.02 * stock


@pytest.mark.slow
@pytest.mark.parametrize('make, sizes', [(vit, (64, 128, 256)), (swin, (56, 112, 224))])
def test_linear_in_tokens(make, sizes):
    # each size has four times the tokens of the one before; a matrix kept
    # for each head would come to 4.6 times between the last two of the ViT
    used = [traced_bytes(make(img_size=size), size) for size in sizes]
    assert used[1] < 4.1 * used[0]
    assert used[2] < 4.1 * used[1]


def test_recording_keeps_one_number_per_token():
    # and what is kept for the backward does not grow with it
    backbone = vit(img_size=112)
    assert traced_bytes(backbone, 112, record=True) == traced_bytes(backbone, 112)
    trace = LabelTrace(backbone, record=True)
    with trace(toys.shares(2, 7)):
        backbone(toys.images(2, 112))
    assert [s.untyped_storage().nbytes() for s in trace.block_shares] == [2 * (7 * 7 + 1) * 4] * 2
