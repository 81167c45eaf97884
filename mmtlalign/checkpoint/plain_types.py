"""Types that a config which nobody has vouched for may build."""

from collections.abc import Iterator

from mmengine.config import Config

from mmtlalign.data_configs import HOSTS
from mmtlalign.errors import UserError
from mmtlalign.registry import BATCH_AUGMENTS, MODELS

# Of the hosts, whose registries also hold types that download, unpickle or
# read other configs when they are built. Each of these only makes layers.
PLAIN = frozenset(
    (
        # models
        'CascadeRCNN EncoderDecoder FasterRCNN ImageClassifier MaskRCNN '
        'DetDataPreprocessor ClsDataPreprocessor SegDataPreProcessor '
        # backbones
        'BEiTViT DaViT DeiT3 DistilledVisionTransformer HiViT LeViT MViT MixVisionTransformer '
        'PCPVT PoolFormer PyramidVisionTransformer PyramidVisionTransformerV2 ResNet ResNet_CIFAR '
        'SVT SwinTransformer SwinTransformerV2 T2T_ViT ViTEVA02 ViTSAM VisionTransformer XCiT '
        # necks
        'FPN Feature2Pyramid GlobalAveragePooling MoCoV2Neck MultiLevelNeck '
        # heads and what belongs to them
        'ClsHead ConformerHead DeiTClsHead EfficientFormerClsHead LeViTClsHead LinearClsHead '
        'StackedLinearClsHead VigClsHead VisionTransformerClsHead FCNHead UPerHead RPNHead '
        'StandardRoIHead CascadeRoIHead SingleRoIExtractor RoIAlign Shared2FCBBoxHead '
        'Shared4Conv1FCBBoxHead FCNMaskHead AnchorGenerator DeltaXYWHBBoxCoder MaxIoUAssigner '
        'RandomSampler nms '
        # losses, mixing
        'CrossEntropyLoss GIoULoss L1Loss LabelSmoothLoss SmoothL1Loss CutMix Mixup '
        # layers
        'BN GELU GN LN ReLU SyncBN '
        # initial values, which are drawn only where a training begins
        'Constant Kaiming Normal Pretrained TruncNormal Uniform Xavier'
    ).split()
)


def check_plain_types(cfg: Config, path: str) -> None:
    """Raise a UserError unless all that a model is built of is known.

    It names the first type that is neither one of ours nor in the list of the hosts' plain ones.

    Args:
        cfg (Config): Read from a file that may be anybody's.
        path (str): Of the checkpoint; only for the message.
    """
    scopes = [cfg.get('default_scope') or 'mmpretrain']
    MODELS.import_from_location()
    for name in _find_types([cfg.get('model'), cfg.get('data_preprocessor')], scopes):
        if not _is_plain(name):
            raise UserError(
                f"checkpoint '{path}': its model is built of {name!r:.100}, "
                'which is none of the types that are known to do no more than '
                'make layers; pass --trust if you trust whoever made it'
            )
    for scope in scopes:
        if scope not in HOSTS:
            raise UserError(
                f"checkpoint '{path}': its types are looked up in {scope!r:.50}, which is none of "
                f'{", ".join(HOSTS)}; pass --trust if you trust whoever made it'
            )


def _find_types(node, scopes: list) -> Iterator:
    """All that registries would look up; adds to where they would."""
    if isinstance(node, dict):
        if 'type' in node:
            yield node['type']
        if '_scope_' in node:
            scopes.append(node['_scope_'])
        for value in node.values():
            yield from _find_types(value, scopes)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _find_types(value, scopes)


def _is_plain(name) -> bool:
    if not isinstance(name, str):
        return False
    scope, _, bare = name.rpartition('.')
    if scope == 'mmtlalign':
        return bare in MODELS.module_dict or bare in BATCH_AUGMENTS.module_dict
    return bare in PLAIN and (not scope or scope in HOSTS)
