"""Encoder features for the metrics that measure them."""

from copy import deepcopy
from typing import Optional

import torch
from mmengine.dist import collect_results, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress
from torch import nn
from torch.utils.hooks import RemovableHandle

from mmtlalign.errors import UserError
from mmtlalign.evaluation.metrics.feature_metric import FeatureMetric, stack
from mmtlalign.models.encoder_features import encoder_features
from mmtlalign.registry import HOOKS


@HOOKS.register_module()
class EncoderFeatures(Hook):
    """Put the encoder's features on data samples while testing.

    The samples that any model with a ``backbone`` predicts get a ``feature``
    (C, ), what a linear head would read (see
    :mod:`mmtlalign.models.encoder_features`). If a metric needs a bank of
    labelled features, one is extracted before the first batch, once for all
    metrics. The same in validation. Without a :class:`FeatureMetric` among
    the metrics, nothing is done.

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

    def __init__(self, bank_dataloader: Optional[dict] = None) -> None:
        self.bank_dataloader = bank_dataloader
        self._handles: list[RemovableHandle] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Start, before validation."""
        self._start(runner, runner.val_evaluator, 'val')

    def before_test_epoch(self, runner: Runner) -> None:
        """Start, before a test."""
        self._start(runner, runner.test_evaluator, 'test')

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        """Leave the model as it was."""
        self._stop()

    def after_test_epoch(self, runner: Runner, metrics=None) -> None:
        """Leave the model as it was."""
        self._stop()

    def _start(self, runner: Runner, evaluator: Evaluator, phase: str) -> None:
        """Attach features from now on; extract the bank."""
        self._stop()  # the last run may have ended with an exception
        metrics = [metric for metric in evaluator.metrics if isinstance(metric, FeatureMetric)]
        if not metrics:
            return
        model = runner.model
        self._handles = attach_features(model.module if is_model_wrapper(model) else model)
        needing = [metric for metric in metrics if metric.needs_bank]
        if needing:
            loader = self.bank_dataloader or training_images(runner.cfg, phase)
            bank = extract_bank(runner, loader)
            for metric in needing:
                metric.bank = bank

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def attach_features(model: nn.Module) -> list[RemovableHandle]:
    """From now on, samples that the model returns have a ``feature``.

    Args:
        model (nn.Module): Not wrapped, with a ``backbone``.

    Returns:
        list[RemovableHandle]: To remove when this should end.
    """
    latest = {}

    def keep(backbone: nn.Module, inputs, outputs) -> None:
        latest['features'] = encoder_features(backbone, outputs)

    def attach(model: nn.Module, inputs, samples) -> None:
        for sample, feature in zip(samples, latest.pop('features')):
            sample.set_field(feature, 'feature')

    return [model.backbone.register_forward_hook(keep), model.register_forward_hook(attach)]


def training_images(cfg: dict, phase: str) -> dict:
    """Dataloader of the training images under the pipeline of a phase.

    Args:
        cfg (dict): Full config.
        phase (str): 'val' or 'test'.

    Returns:
        dict: Arguments of ``Runner.build_dataloader``.

    Raises:
        UserError: If the training data have no pipeline of their own.
    """
    dataset = deepcopy((cfg.get('train_dataloader') or {}).get('dataset', {}))
    if 'pipeline' not in dataset:
        raise UserError(
            'the bank of features cannot be made of train_dataloader.dataset, '
            'which has no pipeline of its own; give EncoderFeatures a '
            'bank_dataloader'
        )
    loader = deepcopy(cfg[f'{phase}_dataloader'])
    dataset['pipeline'] = loader['dataset']['pipeline']
    loader['dataset'] = dataset
    return loader


def extract_bank(runner: Runner, dataloader: dict):
    """Features of all images of a dataloader, by attached hooks.

    Args:
        runner (Runner): Its model has :func:`attach_features` in effect.
        dataloader (dict): Arguments of ``Runner.build_dataloader``.

    Returns:
        tuple[Tensor, Tensor] | None: Features (N, C) and labels (N, ), on the
        CPU; None on all processes but the first.
    """
    loader = runner.build_dataloader(dataloader, seed=runner.seed)
    size = len(loader.dataset)
    print_log(f'Extracting a bank of features from {size} images', logger='current')
    batches = loader
    if is_main_process():
        batches = track_iter_progress((loader, len(loader)))
    results = []
    runner.model.eval()
    with torch.no_grad():
        for batch in batches:
            results += [
                (sample.feature.cpu(), sample.gt_label.cpu())
                for sample in runner.model.test_step(batch)
            ]
    results = collect_results(results, size, 'cpu')
    return stack(results) if results is not None else None
