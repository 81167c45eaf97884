"""Start-up messages that are known, and known to be harmless."""

import logging
import re
import warnings

from mmengine.logging import logger as mmengine_logger

# What each of them would make a reader look for does not exist.
KNOWN_NOISE = (
    # mmpretrain, mmdet, mmseg: an optional data service of the fork
    'Could not import OneDL',
    'Could not import OneDL. Skipping OneDL datasets.',
    # mmcv without compiled operators; classification needs none
    'Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops.multi_scale_deform_attn``, '
    'You should install ``mmcv`` rather than ``mmcv-lite`` if you need this module. ',
    # mmdet: a lane detector's operator, whichever model is built
    'Line NMS is not compiled. Most likely when installing the package cuda '
    'was not available.\n'
    'This model cannot work without CUDA, therefore you need to recompile the '
    'package with CUDA support.\n'
    'To make sure that the package is compiled with CUDA support use '
    'FORCE_CUDA=1 mim install -e .\n',
    # mmdet: an optional metric, which fails on its own when it is used
    'faster_coco_eval is not installed, metrics will not be computed. Please '
    'install it by: mim install onedl-mmdetection[optional]',
    # mmengine, about the name of mmseg's metric
    'The prefix is not set in metric class IoUMetric.',
    # mmengine: a visualizer that draws for the caller saves nothing
    "Failed to add <class 'mmengine.visualization.vis_backend."
    "LocalVisBackend'>, please provide the `save_dir` argument.",
    # mmengine, about its own calls
    '"FileClient" will be deprecated in future. Please use io functions in '
    'https://onedl-mmengine.readthedocs.io/en/latest/api/fileio.html#file-io',
    '"HardDiskBackend" is the alias of "LocalBackend" and the former will be deprecated in future.',
)


def silence_known_noise() -> None:
    """Keep exactly the messages above from the console and the log.

    They come by three ways: warnings, log records (which are demoted to
    DEBUG) and mmengine's ``print_log`` without a logger, which prints.
    """
    for message in KNOWN_NOISE:
        warnings.filterwarnings('ignore', re.escape(message) + r'\Z')
    make_record = logging.getLogRecordFactory()

    def make_demoted(*args, **kwargs) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        if isinstance(record.msg, str) and record.msg in KNOWN_NOISE:
            record.levelno, record.levelname = logging.DEBUG, 'DEBUG'
        return record

    def print_unknown(message: str) -> None:
        if message not in KNOWN_NOISE:
            print(message)

    logging.setLogRecordFactory(make_demoted)
    mmengine_logger.print = print_unknown
