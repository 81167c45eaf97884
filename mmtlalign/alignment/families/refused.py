"""Backbones of mmpretrain whose mixing no share can follow, or not yet.

A share follows where tokens take from others by weights that are known, not
negative, and sum to one.
"""
from . import refuse_family

refuse_family(
    'mmpretrain.MlpMixer', 'mmpretrain.RepMLPNet',
    reason='it mixes tokens by learned weights of either sign, whose rows do '
    'not sum to one')
refuse_family(
    'mmpretrain.ConvMixer',
    reason='it mixes tokens by convolutions, whose weights have either sign')
refuse_family(
    'mmpretrain.EdgeNeXt',
    reason='its attention mixes channels only, and its convolutions mix '
    'tokens by weights of either sign')
refuse_family(
    'mmpretrain.VAN', 'mmpretrain.HorNet',
    reason='it multiplies tokens by convolutions of others, which is not '
    'linear mixing')
refuse_family(
    'mmpretrain.RIFormer',
    reason='it has no token mixer; a label would move in its patch embeddings '
    'only')
refuse_family(
    'mmpretrain.Vig', 'mmpretrain.PyramidVig',
    reason='a token takes the largest difference to its neighbours, channel '
    'by channel, which is not linear mixing')
refuse_family(
    'mmpretrain.MobileViT', 'mmpretrain.Conformer',
    reason='convolutions with weights of either sign mix tokens between its '
    'attentions, into the stream that they read')
refuse_family(
    'mmpretrain.TNT',
    reason='not supported yet: pixels inside each patch have attention of '
    'their own, and would need shares of their own')
refuse_family(
    'mmpretrain.RevVisionTransformer',
    reason='not supported yet: it keeps two residual streams, whose shares '
    'would have to be carried apart')
refuse_family(
    'mmpretrain.TinyViT',
    reason='not supported yet: it cuts windows in its blocks, by code of its '
    'own, between convolutions')
refuse_family(
    'mmpretrain.MixMIMTransformer',
    reason='not supported yet: its windows are of a class of its own, made '
    'for two masked images in one')
refuse_family(
    'mmpretrain.EfficientFormer',
    reason='not supported yet: it pools in all but its last blocks, which '
    'have attention of a class of its own')
