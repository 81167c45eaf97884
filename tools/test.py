"""Test a classifier, detector or segmenter: ``mmtlalign test``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('test')
