"""Test a classifier, detector or segmenter: a config and its checkpoint.

mmtlalign test CONFIG work_dirs/NAME/epoch_300.pth --bootstrap draws.json
"""

import argparse
import json

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric, DumpResults
from mmengine.logging import print_log

from mmtlalign.checkpoint import check_weights, hand_to_host, load_checkpoint_safely
from mmtlalign.commands.checks import (
    check_data,
    check_shared_memory,
    check_values,
    classes_in,
    report,
)
from mmtlalign.commands.command_line import (
    add_common_arguments,
    check_file,
    ending,
    load_config,
    make_folder_of,
    make_out_folder,
    new_parser,
)
from mmtlalign.commands.distributed import use_gloo_without_gpu
from mmtlalign.commands.runner import build_runner
from mmtlalign.commands.threads import set_threads
from mmtlalign.errors import UserError
from mmtlalign.evaluation.bootstrap import CollectingMetric, figure_of, redraw
from mmtlalign.host_check import check_host
from mmtlalign.old_arguments import modernise
from mmtlalign.output_files import write_whole
from mmtlalign.resources import check_data_of


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='path of a config, or name of one that comes along')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        '--out',
        type=ending('.pkl', '.pickle'),
        metavar='FILE.pkl',
        help='also write all predictions to this file',
    )
    parser.add_argument(
        '--bootstrap',
        type=ending('.json'),
        metavar='FILE.json',
        help='also write what the figure is on test images '
        'drawn anew, with replacement, 1000 times',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="average over the sizes and mirror images of the config's tta_pipeline",
    )
    add_common_arguments(parser)
    return parser


def save_bootstrap(metric: BaseMetric, results: list, figures: dict, path: str) -> None:
    """Write the figure of a metric and its draws, given what it gathered of every image."""
    name, draws = figure_of(metric), redraw(metric, results)
    low, high = np.percentile(draws, [2.5, 97.5])
    found = dict(metric=name, figure=float(figures[name]), interval=[low, high])
    found |= dict(num_images=len(results), draws=draws.round(4).tolist())
    write_whole(path, json.dumps(found) + '\n')
    print_log(
        f'{name} {figures[name]:.4f}; of {len(results)} images drawn anew, 95 % of the time '
        f'between {low:.4f} and {high:.4f}, which tells nothing about other trainings: {path}',
        logger='current',
    )


def use_tta(cfg: Config) -> None:
    """Make a config test with its own ``tta_pipeline``, and wrap its model in its ``tta_model``."""
    for key in ('tta_model', 'tta_pipeline'):
        if key not in cfg:
            raise UserError(f'--tta needs {key} in the config; the ADE20K configs have it')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    cfg = load_config(args)
    check_data_of(cfg, 'test')
    check_values(cfg)
    check_shared_memory(cfg)
    modernise(cfg.model)
    check_file(args.checkpoint, 'checkpoint')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    check_host(cfg)
    make_out_folder(cfg.work_dir, '--work-dir', 'work dir')
    for option, path in (('--out', args.out), ('--bootstrap', args.bootstrap)):
        if path:
            make_folder_of(path, option)
    checkpoint = load_checkpoint_safely(args.checkpoint, args.trust)
    full = args.check == 'full'
    trained = classes_in(checkpoint)
    findings = check_data(cfg, 'test', full=full, trained=trained, checkpoint=args.checkpoint)
    if findings:
        print('\n'.join(report(findings)))
    if args.tta:
        use_tta(cfg)
    use_gloo_without_gpu(cfg)
    threads = set_threads(distributed=cfg.launcher != 'none')

    runner = build_runner(cfg)
    print_log(threads, logger='current')
    model = runner.model
    while hasattr(model, 'module'):  # of DDP, of test-time augmentation
        model = model.module
    check_weights(model, checkpoint, args.checkpoint)
    hand_to_host(args.checkpoint, checkpoint)
    del checkpoint
    if args.bootstrap:
        metrics = runner.test_evaluator.metrics
        figure_of(metrics[0])  # refuses a metric that it does not know
        metrics[0] = collecting = CollectingMetric(metrics[0])
    if args.out:
        runner.test_evaluator.metrics.append(DumpResults(args.out))
    figures = runner.test()
    if args.bootstrap and is_main_process():
        save_bootstrap(collecting.metric, collecting.collected, figures, args.bootstrap)
