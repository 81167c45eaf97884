"""Measure how far shares move: ``mmtlalign share-by-block``."""
from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('share_by_block')
