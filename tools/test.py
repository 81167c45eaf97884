"""Test a classifier, detector or segmenter: a config and its checkpoint."""
import argparse

from mmengine.evaluator import DumpResults
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmtlalign.utils import (
    add_common_arguments,
    check_checkpoint,
    check_data,
    check_file,
    check_host,
    load_config,
    make_work_dir,
    one_line_errors,
    set_threads,
    silence_known_noise,
    use_gloo_without_gpu,
    use_tta,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of a config, or name of one that '
                        'comes along')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--out', metavar='FILE.pkl',
                        help='also write all predictions to this file')
    parser.add_argument('--tta', action='store_true',
                        help='average over the sizes and mirror images of the '
                        "config's tta_pipeline")
    add_common_arguments(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f"--out '{args.out}' must end in .pkl or .pickle")
    return args


def main() -> None:
    args = parse_args()
    silence_known_noise()
    cfg = load_config(args)
    check_file(args.checkpoint, 'checkpoint')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    check_host(cfg)
    check_data(cfg, 'test')
    if args.tta:
        use_tta(cfg)
    make_work_dir(cfg.work_dir)
    use_gloo_without_gpu(cfg)
    threads = set_threads(distributed=cfg.launcher != 'none')

    build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
    runner = build(cfg)
    print_log(threads, logger='current')
    model = runner.model
    while hasattr(model, 'module'):  # of DDP, of test-time augmentation
        model = model.module
    check_checkpoint(model, args.checkpoint, args.trust)
    if args.out:
        runner.test_evaluator.metrics.append(DumpResults(args.out))
    runner.test()


if __name__ == '__main__':
    with one_line_errors('test.py'):
        main()
