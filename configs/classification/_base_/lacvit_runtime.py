# Tests measure the encoder's features as well as the predictions.
_base_ = './default_runtime.py'

default_hooks = dict(checkpoint=dict(interval=10))

custom_hooks = [*_base_.custom_hooks, dict(type='mmtlalign.EncoderFeatures')]

val_evaluator = [dict(type='Accuracy', topk=(1, 5))]
test_evaluator = [
    *val_evaluator,
    dict(type='mmtlalign.KNNAccuracy', k=20, temperature=0.07),
    dict(type='mmtlalign.LinearProbe'),
    dict(type='mmtlalign.Isotropy'),
]
