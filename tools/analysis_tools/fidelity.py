"""Hold shares against a model's answers: ``mmtlalign fidelity``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('fidelity')
