"""Our readers of data in place of the hosts', which disregard names and EXIF."""

from mmengine.config import Config

from mmtlalign.config_nodes import walk

# By host: types that are replaced, and by what.
OWN = dict(
    mmpretrain={'CustomDataset': 'mmtlalign.CustomDataset', 'ImageNet': 'mmtlalign.ImageNet'},
    mmdet={'LoadImageFromFile': 'mmtlalign.LoadAnnotatedImage'},
    mmseg={'LoadImageFromFile': 'mmtlalign.LoadAnnotatedImage'},
)
TURNING = ('mmtlalign.LoadAnnotatedImage', 'mmtlalign.LoadObjectCrop')


def use_own_loaders(cfg: Config, apply_exif: bool = False) -> None:
    """Let a run read its data as :mod:`mmtlalign.datasets` does: data sets of folders go by the
    names of these, and images for detection and segmentation are the way up that their
    annotations are, with ``apply_exif`` also where sizes leave open which way that is."""
    own = OWN.get(cfg.get('default_scope', 'mmpretrain'), {})
    places = [cfg.get(f'{phase}_dataloader') for phase in ('train', 'val', 'test')]
    # a list, as nodes are changed on the way
    for _, node in list(walk([*places, cfg.get('tta_pipeline')])):
        if not isinstance(node, dict):
            continue
        kind = node.get('type')
        if isinstance(kind, str):
            scope, _, name = kind.rpartition('.')
            if name in own and scope in ('', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg'):
                kind = node['type'] = own[name]
        elif isinstance(kind, type) and kind.__module__.startswith('mmtlalign.'):
            kind = f'mmtlalign.{kind.__name__}'
        if apply_exif and kind in TURNING:
            node['apply_tag'] = True
