"""Shares through torchvision's ViT, against an oracle of its own."""

import torch
from torchvision.models.vision_transformer import ConvStemConfig

from mmtlalign.alignment import LabelTrace
from tests.oracles.vits import torchvision_labels
from tests.test_alignment import timm_toys
from tests.test_alignment.checks import assert_same
from tests.test_alignment.contract import FamilyContract


class TestTorchvisionViT(FamilyContract):
    oracle = staticmethod(torchvision_labels)
    exact = False
    variants = [
        dict(),
        dict(representation_size=8),
        dict(conv_stem_configs=[ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2)]),
    ]
    rates = dict(dropout=0.5)  # which draws in the order of memory
    layers = 'encoder.layers.encoder_layer_'
    checkpointed = [layers + '0', layers + '2']
    modules = [layers + '0', layers + '1.self_attention']
    refused = [
        (dict(attention_dropout=0.1), 'encoder_layer_0.self_attention has attention dropout 0.1')
    ]

    def make(self, **cfg):
        backbone = timm_toys.torchvision_vit(**cfg)
        return backbone.eval() if 'conv_stem_configs' in cfg else backbone

    def test_fast_path_of_inference(self):
        backbone = self.make().eval()
        images, share = self.inputs()
        trace = LabelTrace(backbone)
        with trace(share):
            backbone(images)
        kept = trace.output_share
        with torch.inference_mode():
            stock = backbone(images)
            with trace(share):
                assert_same(backbone(images), stock)
        assert_same(trace.output_share, kept, 1e-6)
