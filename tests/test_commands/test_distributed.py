from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmtlalign.commands.distributed import use_gloo_without_gpu
from mmtlalign.errors import UserError

from ..forked import run_forked
from ..tiny import environment


@pytest.mark.parametrize(
    'launcher, gpu', [('none', False), ('pytorch', True), ('slurm', True), ('pytorch', False)]
)
def test_without_gpu_there_is_a_group_and_the_model_is_wrapped_without_devices(
    monkeypatch, launcher, gpu
):
    made = []
    monkeypatch.setattr(torch.distributed, 'init_process_group', made.append)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    before = dict(launcher=launcher, find_unused_parameters=True)
    before['model_wrapper_cfg'] = dict(static_graph=True)
    cfg = Config(before)
    use_gloo_without_gpu(cfg)
    if gpu or launcher == 'none':  # mmengine manages
        assert made == [] and cfg.to_dict() == before
        return
    assert made == ['gloo']
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=True,
        static_graph=True,
        device_ids=None,
    )
    with pytest.raises(UserError, match='--launcher slurm needs GPUs'):
        use_gloo_without_gpu(Config(dict(launcher='slurm')))


@pytest.mark.slow
@pytest.mark.skipif(
    not Path('/proc/self/task').is_dir(), reason='counts threads in /proc, which is not here'
)
def test_no_thread_of_the_group_outlives_the_interpreter(tmp_path):
    """They abort a process now and then; the model is in a cycle."""
    script = """
import atexit, os, torch
from mmengine.config import Config
from torch.distributed import is_initialized

def more():
    return len(os.listdir('/proc/self/task')) - before

# called last, as the first to be registered
atexit.register(lambda: print('left', is_initialized(), more()))
from mmtlalign.commands.distributed import use_gloo_without_gpu
torch.ones(2, requires_grad=True).sum().backward()  # starts its own threads
before = len(os.listdir('/proc/self/task'))
use_gloo_without_gpu(Config(dict(launcher='pytorch')))

def main():
    runner = [torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))]
    runner.append(runner)
    runner[0](torch.ones(1, 2)).sum().backward()

main()
print('joined', is_initialized(), more() > 0)
"""
    (tmp_path / 'joined.py').write_text(script)
    address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT='0', RANK='0', WORLD_SIZE='1')
    env = environment(tmp_path, CUDA_VISIBLE_DEVICES='', **address)
    done = run_forked(tmp_path / 'joined.py', [], tmp_path, env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('joined True True\nleft False 0\n')
