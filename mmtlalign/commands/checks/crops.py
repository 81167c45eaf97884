"""Look at the scenes that objects will be cut out of before training on them."""

from collections import Counter

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, DefaultScope

from mmtlalign.datasets import ObjectCrops
from mmtlalign.datasets.transforms.load_object_crop import LoadObjectCrop

from .detection import look_at_coco
from .findings import Findings
from .images import sample
from .progress import in_threads


def look_at_crops(where: str, dataset: ConfigDict, full: bool = False) -> Findings:
    """Annotations and images as for detection, and masks of a sample; ``full``: of all.

    Raises:
        UserError: Naming the file and what to do.
    """
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        crops: ObjectCrops = DATASETS.build({**dataset, 'lazy_init': True})
    crops.full_init()
    scenes = ConfigDict(dataset, data_root='', data_prefix=dict(img=crops.img_prefix))
    found = look_at_coco(where, scenes, crops.ann_file, None, full=full)
    objects = [crops.get_data_info(i) for i in range(len(crops))]
    looked_at = sample(objects, full)
    # to be told now what would end a training
    in_threads(LoadObjectCrop(), looked_at, 'objects')
    labels = Counter(part['gt_label'] for part in objects)
    found.counts = {name: labels[i] for i, name in enumerate(crops.CLASSES)}
    found.images, found.unit = len(crops), 'objects'
    found.left_out = [crops.left_out] if crops.left_out else []
    return found
