_base_ = [
    '../models/lacvit_deit-small.py',
    '../schedules/lacvit_stage1.py',
    '../lacvit_stage1_runtime.py',
]
