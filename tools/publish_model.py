"""Make a checkpoint into files to download: ``mmtlalign publish``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('publish')
