"""Measure accuracy on disturbed images: ``mmtlalign robustness``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('robustness')
