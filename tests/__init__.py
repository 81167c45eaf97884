import os

# Before anything imports Triton: its kernels run in its interpreter, on CPUs.
os.environ.setdefault('TRITON_INTERPRET', '1')
