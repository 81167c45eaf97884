"""Room for the batches that data-loading workers hand over."""

import os
import shutil

from mmengine.config import Config

from mmtlalign.errors import UserError

SHARED_MEMORY = '/dev/shm'
# A worker holds two batches; 128 images of 224 x 224 pixels are 19 MB.
PER_WORKER = 8 * 2**20


def check_shared_memory(cfg: Config) -> None:
    """Raise a UserError if workers of data loaders would wait for ever, or be killed."""
    loaders = [cfg.get(f'{phase}_dataloader') or {} for phase in ('train', 'val', 'test')]
    workers = max(loader.get('num_workers') or 0 for loader in loaders)
    if not workers or not os.path.isdir(SHARED_MEMORY):
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < workers * PER_WORKER:
        raise UserError(
            f'shared memory ({SHARED_MEMORY}) has {free / 2**20:.0f} MiB left, too little for '
            f'num_workers={workers}; free it, in a container give it more (--shm-size), or set '
            '--cfg-options train_dataloader.num_workers=0'
        )
