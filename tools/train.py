"""Train a classifier, detector or segmenter: ``mmtlalign train``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('train')
