"""Our readers of data in place of the hosts', which disregard names and EXIF.
"""
from collections.abc import Iterator

from mmengine.config import Config

# By host: types that are replaced, and by what.
OWN = dict(
    mmpretrain={'CustomDataset': 'mmtlalign.CustomDataset',
                'ImageNet': 'mmtlalign.ImageNet'},
    mmdet={'LoadImageFromFile': 'mmtlalign.LoadAnnotatedImage'},
    mmseg={'LoadImageFromFile': 'mmtlalign.LoadAnnotatedImage'})


def use_own_loaders(cfg: Config, apply_exif: bool = False) -> None:
    """Let a run read its data as :mod:`mmtlalign.datasets` does.

    Args:
        cfg (Config): Modified in place: data sets of folders go by the names
            of these, and images for detection and segmentation are the way up
            that their annotations are.
        apply_exif (bool): Turn such images also where sizes leave open which
            way up that is. Defaults to False.
    """
    own = OWN.get(cfg.get('default_scope', 'mmpretrain'), {})
    places = [cfg.get(f'{phase}_dataloader')
              for phase in ('train', 'val', 'test')]
    for node in _typed_nodes([*places, cfg.get('tta_pipeline')]):
        scope, _, name = node['type'].rpartition('.')
        if name in own and scope in ('', 'mmcv', 'mmpretrain', 'mmdet',
                                     'mmseg'):
            node['type'] = own[name]
        if apply_exif and node['type'] == 'mmtlalign.LoadAnnotatedImage':
            node['apply_tag'] = True


def _typed_nodes(node) -> Iterator[dict]:
    """All dicts in it that name a type."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _typed_nodes(child)
