# Stage 1 has no classifier to be right or wrong.
_base_ = './lacvit_runtime.py'

val_evaluator = _base_.test_evaluator[1:2]
test_evaluator = _base_.test_evaluator[1:]
