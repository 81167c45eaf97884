"""Trainings one after the other in one pair of processes, which then import the hosts once."""

import json
import os
import sys

from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mmtlalign.__main__ import run
from mmtlalign.commands.distributed import leave_group

for port, arguments in json.loads(sys.argv[1]):
    os.environ['MASTER_PORT'] = port
    sys.argv = ['train.py', *arguments, '--launcher', 'pytorch']
    try:
        run('train')
    except SystemExit as ended:
        if ended.code != 128 + 15:  # a signal that a test has sent
            raise
    leave_group()
    # two trainings of one second have one name, and would share them
    for managed in (MMLogger, MessageHub, Visualizer, DefaultScope):
        managed._instance_dict.clear()
