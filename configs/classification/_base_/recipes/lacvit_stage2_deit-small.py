_base_ = ['../models/linear_deit-small.py', '../schedules/lacvit_stage2.py', '../lacvit_runtime.py']
