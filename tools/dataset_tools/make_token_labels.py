"""Make score maps to train on: ``mmtlalign token-labels``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('token_labels')
