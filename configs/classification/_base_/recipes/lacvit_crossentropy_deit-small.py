_base_ = [
    '../models/crossentropy_deit-small.py',
    '../schedules/lacvit_crossentropy.py',
    '../lacvit_runtime.py',
]
