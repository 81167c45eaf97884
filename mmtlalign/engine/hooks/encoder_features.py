"""Encoder features for the metrics that measure them."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

from mmengine.dist import collect_results, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress
from torch import Tensor

from mmtlalign.errors import UserError
from mmtlalign.evaluation.metrics.feature_metric import FeatureMetric, stack_features
from mmtlalign.models.encoder_features import extract_features
from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class EncoderFeatures(Hook):
    """Give metrics of features what they measure, in tests and validation.

    A :class:`FeatureMetric` extracts the features of tested images from the ``backbone`` of any
    model, what a linear head would read (see :mod:`mmtlalign.models.encoder_features`). If one
    needs a bank of labelled features, it is extracted before the first batch, once for all metrics.
    Without such a metric, nothing is done.

    Args:
        bank_dataloader (dict, optional): A dataloader of labelled images, none
            of which is tested. Defaults to None: the training images of the
            config, under the pipeline of the tested ones.

    Raises:
        UserError: If a bank is needed, and the config has no training images
            or wraps their data set.
    """

    # After the hook that swaps in averaged weights
    priority = 'LOWEST'

    def __init__(self, bank_dataloader: dict | None = None) -> None:
        self.bank_dataloader = bank_dataloader

    def before_val_epoch(self, runner: Runner) -> None:
        """Supply the metrics of the validation."""
        self._supply(runner, runner.val_evaluator, 'val')

    def before_test_epoch(self, runner: Runner) -> None:
        """Supply the metrics of the test."""
        self._supply(runner, runner.test_evaluator, 'test')

    def _supply(self, runner: Runner, evaluator: Evaluator, phase: str) -> None:
        metrics = [metric for metric in evaluator.metrics if isinstance(metric, FeatureMetric)]
        model = runner.model
        extract = partial(extract_features, model.module if is_model_wrapper(model) else model)
        for metric in metrics:
            metric.extract = extract
        if needing := [metric for metric in metrics if metric.needs_bank]:
            loader = self.bank_dataloader or training_images(runner.cfg, phase)
            bank = extract_bank(runner, extract, loader)
            for metric in needing:
                metric.bank = bank


def training_images(cfg: dict, phase: str) -> dict:
    """Dataloader of a config's training images under the pipeline of 'val' or 'test'."""
    dataset = deepcopy((cfg.get('train_dataloader') or {}).get('dataset', {}))
    if 'pipeline' not in dataset:
        raise UserError(
            'the bank of features cannot be made of train_dataloader.dataset, which has no '
            'pipeline of its own; give EncoderFeatures a bank_dataloader'
        )
    loader = deepcopy(cfg[f'{phase}_dataloader'])
    dataset['pipeline'] = loader['dataset']['pipeline']
    return dict(loader, dataset=dataset)


def extract_bank(
    runner: Runner, extract: Callable[[dict], Tensor], dataloader: dict
) -> tuple[Tensor, Tensor] | None:
    """Features (N, C) and labels (N,) of all images of a dataloader, on the CPU; None on all
    processes but the first."""
    loader = runner.build_dataloader(dataloader, seed=runner.seed)
    size = len(loader.dataset)
    runner.logger.info(f'Extracting a bank of features from {size} images')
    batches = track_iter_progress((loader, len(loader))) if is_main_process() else loader
    runner.model.eval()
    results = []
    for batch in batches:
        labels = [sample.gt_label for sample in batch['data_samples']]
        results += zip(extract(batch).cpu(), labels)
    results = collect_results(results, size, 'cpu')
    return stack_features(results) if results is not None else None
