"""Labelled folders of images whose classes are told by their names."""

from mmpretrain.datasets import CustomDataset as HostCustomDataset
from mmpretrain.datasets import ImageNet as HostImageNet
from mmpretrain.datasets.custom import find_folders, get_samples

from mmtlalign.registry import DATASETS


class FoldersByName:
    """Mixin: a host's data set, one folder per class, that minds the names.

    The host numbers the folders that are there, in their order, whatever the classes are called: a
    split that lacks a folder, or has one more (of an editor, say), has all later classes exchanged
    without a word. Here, hidden folders and those without images are no classes, and a folder is
    the class of its name. Only where no folder has the name of a class, and there are as many,
    their order tells, as in ImageNet.

    Raises:
        ValueError: If folders and classes do not belong to one another.
    """

    def _find_samples(self) -> list[tuple[str, int]]:
        if not self.with_label:
            return super()._find_samples()
        folders = [name for name in find_folders(self.img_prefix)[0] if not name.startswith('.')]
        numbers = {name: i for i, name in enumerate(folders)}
        samples, empty = get_samples(self.img_prefix, numbers, is_valid_file=self.is_valid_file)
        used = [name for name in folders if name not in empty]
        labels = number_folders(used, self.CLASSES, self.img_prefix)
        self.folder_to_idx = labels
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(labels)
        if not samples:
            raise ValueError(
                f"no image in the folders of '{self.img_prefix}' ends in "
                f'one of {", ".join(sorted(self.extensions))}'
            )
        return [(path, labels[folders[i]]) for path, i in samples]


def number_folders(folders: list[str], classes: list[str] | None, where: str) -> dict[str, int]:
    """The label of each of the sorted folders; without classes, they are these.

    Raises:
        ValueError: Naming folders that are no class.
    """
    names = folders if classes is None else list(classes)
    numbers = {name: i for i, name in enumerate(names)}
    unknown = [name for name in folders if name not in numbers]
    if not unknown:
        return {name: numbers[name] for name in folders}
    if len(unknown) == len(folders) == len(names):
        if all(map(str.isdecimal, folders)) and folders != sorted(folders, key=int):
            raise ValueError(
                f"'{where}' has numbers for folders, and none is the name of a class: by name they "
                f'come in the order {", ".join(folders[:4])}, ..., which is not that of the classes'
            )
        return {name: i for i, name in enumerate(folders)}
    raise ValueError(
        f"'{where}' has {len(folders)} folders with images, of which {len(unknown)} are none of "
        f'the {len(names)} classes '
        f'({", ".join(map(repr, unknown[:5]))}{", ..." * (len(unknown) > 5)}; the classes are '
        f'{", ".join(map(repr, names[:5]))}{", ..." * (len(names) > 5)})'
    )


@DATASETS.register_module()
class CustomDataset(FoldersByName, HostCustomDataset):
    """The host's ``CustomDataset``, with folders told by their names."""


@DATASETS.register_module()
class ImageNet(FoldersByName, HostImageNet):
    """The host's ``ImageNet``, with folders told by their names."""
