"""Draw learning curves: ``mmtlalign curves``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('curves')
