"""Backbones whose mixing no share can follow, or not yet.

A share follows where tokens take from others by weights that are known, not negative, and sum to
one.
"""

# Names -> reason.
REFUSED = {
    'mmpretrain.MlpMixer mmpretrain.RepMLPNet': 'it mixes tokens by learned weights of either '
    'sign, whose rows do not sum to one',
    'mmpretrain.ConvMixer': 'it mixes tokens by convolutions, whose weights have either sign',
    'mmpretrain.EdgeNeXt': 'its attention mixes channels only, and its convolutions mix tokens by '
    'weights of either sign',
    'mmpretrain.VAN mmpretrain.HorNet': 'it multiplies tokens by convolutions of others, '
    'which is not linear mixing',
    'mmpretrain.RIFormer': 'it has no token mixer; a label would move in its patch embeddings only',
    'mmpretrain.Vig mmpretrain.PyramidVig': 'a token takes the largest difference to its '
    'neighbours, channel by channel, which is not linear mixing',
    'mmpretrain.MobileViT mmpretrain.Conformer': 'convolutions with weights of either sign mix '
    'tokens between its attentions, into the stream that they read',
    'mmpretrain.TNT': 'not supported yet: pixels inside each patch have attention of their own, '
    'and would need shares of their own',
    'mmpretrain.RevVisionTransformer': 'not supported yet: it keeps two residual streams, whose '
    'shares would have to be carried apart',
    'mmpretrain.TinyViT': 'not supported yet: it cuts windows in its blocks, by code of its own, '
    'between convolutions',
    'mmpretrain.MixMIMTransformer': 'not supported yet: its windows are of a class of its own, '
    'made for two masked images in one',
    'mmpretrain.EfficientFormer': 'not supported yet: it pools in all but its last blocks, which '
    'have attention of a class of its own',
    'timm.Eva': 'label alignment knows no attention of timm with rotary positions; use '
    'mmpretrain.ViTEVA02',
    'timm.NaFlexVit': 'it packs images of any size behind masks, so that a batch has no grid',
    'timm.FeatureGetterNet timm.FeatureListNet timm.FeatureDictNet timm.FeatureHookNet': (
        'it takes a model apart; set features_only=False'
    ),
}
