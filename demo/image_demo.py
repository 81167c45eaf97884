"""Draw what a model sees in images: ``mmtlalign demo``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('demo')
