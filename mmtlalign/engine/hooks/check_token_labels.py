"""Compare token labels with the data set before they are trained on."""

from collections.abc import Iterator

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmtlalign.datasets import LoadTokenLabels
from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class CheckTokenLabels(Hook):
    """Stop a training whose token labels are not those of its data set.

    Before the first step, every :class:`LoadTokenLabels` in a pipeline of the training data has its
    store compared with the data set: number and names of images, and the list of classes.

    Raises:
        UserError: Naming the first difference.
    """

    def before_train(self, runner: Runner) -> None:
        """Check all data sets, also those inside wrappers."""
        for dataset in leaf_datasets(runner.train_dataloader.dataset):
            for transform in dataset.pipeline.transforms:
                if isinstance(transform, LoadTokenLabels):
                    transform.store.check(dataset)


def leaf_datasets(dataset) -> Iterator[BaseDataset]:
    """Walk through wrappers such as RepeatDataset and ConcatDataset."""
    if hasattr(dataset, 'datasets'):
        for child in dataset.datasets:
            yield from leaf_datasets(child)
    elif hasattr(dataset, 'dataset'):
        yield from leaf_datasets(dataset.dataset)
    else:
        yield dataset
