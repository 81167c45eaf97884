"""Shares through torchvision's ViT, against an oracle of its own."""

import pytest
import torch
from torchvision.models.vision_transformer import ConvStemConfig

from mmtlalign.alignment import LabelTrace
from tests.oracles.timm_vit import torchvision_labels
from tests.test_alignment import timm_toys, toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import assert_checkpointing, assert_compiles, assert_family

STEM = [ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2)]


@pytest.mark.parametrize(
    'cfg',
    [dict(), dict(representation_size=8), dict(conv_stem_configs=STEM)],
    ids=['plain', 'with pre-logits', 'with a stem'],
)
@pytest.mark.parametrize('training', [True, False])
def test_vit(cfg, training):
    backbone = timm_toys.torchvision_vit(**cfg)
    backbone.train(training)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert_family(backbone, toys.images(), toys.shares(), torchvision_labels, exact=False)


def test_fast_path_of_inference():
    backbone = timm_toys.torchvision_vit().eval()
    images, share = toys.images(), toys.shares()
    trace = LabelTrace(backbone)
    with trace(share):
        backbone(images)
    kept = trace.output_share
    with torch.inference_mode():
        stock = backbone(images)
        with trace(share):
            assert_same(backbone(images), stock)
    assert_same(trace.output_share, kept, 1e-6)


def test_checkpointing(run_checkpoint):
    assert_checkpointing(
        timm_toys.torchvision_vit(),
        toys.images(),
        toys.shares(),
        ['encoder.layers.encoder_layer_0', 'encoder.layers.encoder_layer_2'],
        run_checkpoint,
    )


def test_compiles():
    assert_compiles(timm_toys.torchvision_vit(num_layers=2), toys.images(), toys.shares())


def test_refused_dropout():
    backbone = timm_toys.torchvision_vit(attention_dropout=0.1)
    with pytest.raises(
        ValueError, match='encoder_layer_0.self_attention has attention dropout 0.1'
    ):
        LabelTrace(backbone)


def test_dropout_draws_as_in_stock():
    # it draws in the order of memory, which must be that of stock
    backbone = timm_toys.torchvision_vit(dropout=0.5).train()
    images = toys.images()
    torch.manual_seed(0)
    stock = backbone(images)
    torch.manual_seed(0)
    with LabelTrace(backbone)(toys.shares()):
        traced = backbone(images)
    assert_same(traced, stock)
