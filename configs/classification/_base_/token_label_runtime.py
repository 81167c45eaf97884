# The default runtime, and a look at the maps before they are trained on.
_base_ = './default_runtime.py'

custom_hooks = [dict(type='mmtlalign.ResumeRandomState'), dict(type='mmtlalign.CheckTokenLabels')]
