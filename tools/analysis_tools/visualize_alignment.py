"""Draw how labels move: ``mmtlalign visualize``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('visualize')
