"""Convert a checkpoint's layout: ``mmtlalign convert``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('convert')
