"""Reads token labels, which geometric transforms then carry along."""

from functools import cached_property

from mmcv.transforms import BaseTransform

from mmtlalign.registry import TRANSFORMS

from ..token_label_store import TokenLabelStore


@TRANSFORMS.register_module()
class LoadTokenLabels(BaseTransform):
    """Read the map of an image from a :class:`TokenLabelStore`.

    Comes right after the image was loaded. From here on, only transforms of
    :mod:`carrying` may move the image; the data preprocessor checks that.

    Required keys: ``img``, ``sample_idx`` and, if it comes from a file,
    ``img_path``. Added: ``token_labels`` (:class:`TokenLabels`), which
    ``PackInputs`` hands on with ``algorithm_keys=('token_labels', )``.

    Args:
        store (str): Folder of the store.
    """

    def __init__(self, store: str) -> None:
        self.path = store

    @cached_property
    def store(self) -> TokenLabelStore:
        """TokenLabelStore: Opened when it is first needed."""
        return TokenLabelStore(self.path)

    def transform(self, results: dict) -> dict:
        results['token_labels'] = self.store.read(
            results['sample_idx'], results.get('img_path'), results['img'].shape[:2]
        )
        return results

    def __getstate__(self) -> dict:
        """Workers open the store for themselves."""
        return dict(path=self.path)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(store={self.path!r})'
