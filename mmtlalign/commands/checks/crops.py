"""Look at the scenes that objects will be cut out of before training on them."""

from collections import Counter

from mmengine.config import ConfigDict

from mmtlalign.datasets.orientation import UNCLEAR, annotated_view
from mmtlalign.errors import UserError

from .classification import build_unread
from .findings import Findings
from .images import Header, folders_of, missing_files, read_header, sample, say_unclear
from .progress import in_threads


def look_at_crops(where: str, dataset: ConfigDict, full: bool = False) -> Findings:
    """Annotations, and headers of a sample of the scenes; ``full``: of all.

    Raises:
        UserError: Naming the file and what to do.
    """
    built = build_unread(dataset)
    built.full_init()
    objects = [built.get_data_info(i) for i in range(len(built))]
    scenes = {part['img_path']: (part['width'], part['height']) for part in objects}
    if missing := missing_files([*scenes]):
        raise UserError(
            f"annotation file '{built.ann_file}' ({where}.ann_file) names {len(missing)} of "
            f"{len(scenes)} images that are not there, the first '{missing[0]}': add them, or "
            f'correct {where}.data_prefix'
        )
    looked_at = sample([*scenes], full)

    def is_unclear(path: str) -> bool:
        return _view(path, read_header(path), scenes[path]) == UNCLEAR

    unclear = sum(in_threads(is_unclear, looked_at, 'image headers'))
    found = Findings(where, images=len(built), unit='objects', left_out=[built.left_out])
    labels = Counter(part['gt_label'] for part in objects)
    found.counts = {name: labels[i] for i, name in enumerate(built.CLASSES)}
    found.files = [built.ann_file, *folders_of(scenes), *looked_at]
    if unclear:
        found.warnings.append(say_unclear(unclear, len(looked_at), where))
    return found


def _view(path: str, header: Header, annotated: tuple[int, int]) -> str:
    view = annotated_view(*header, annotated)
    if view is None:
        stored, said = ('x'.join(map(str, size)) for size in (header.size, annotated))
        raise UserError(
            f"image '{path}' has {stored} px, but its annotations are for {said}: they belong to "
            'another image'
        )
    return view
