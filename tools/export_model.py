"""Write ONNX or torch.export: ``mmtlalign export``."""

from mmtlalign.__main__ import run

if __name__ == '__main__':
    run('export')
