"""What release 0.1 wrote in configs of classifiers, and what to write now."""

AREA = dict(type='mmtlalign.AreaTarget')
MONITORED = dict(type='mmtlalign.AreaTarget', monitor=True)
ALIGNED = dict(type='mmtlalign.AlignedTarget')

# By `aligned` and `monitor`
TARGETS = {
    (True, False): ALIGNED,
    (True, True): ALIGNED,
    (False, False): AREA,
    (False, True): MONITORED,
}
# Classifiers that had these, with the default of `aligned`
CLASSIFIERS = dict(TLAlignClassifier=True, TokenLabelClassifier=False)
# Heads that divided binary cross entropy by the number of classes
HEADS = ('TLAlignVisionTransformerClsHead', 'TLAlignLinearClsHead', 'TokenLabelHead')


def modernise(model: dict) -> list[str]:
    """Rewrite old arguments in place, so that old files go on working.

    Args:
        model (dict): The model of a config.

    Returns:
        list[str]: What was written and what is now, one text per argument.
    """
    changes = []
    default = CLASSIFIERS.get(_name(model))
    if default is None:
        return changes
    old = {key: model.pop(key) for key in ('aligned', 'monitor') if key in model}
    if old:
        target = TARGETS[bool(old.get('aligned', default)), bool(old.get('monitor', False))]
        if target != TARGETS[default, False]:
            model['target'] = dict(target)
        changes.append(f'{_spell(old)} is now target=dict({_spell(target)})')
    head = model.get('head') or {}
    loss = head.get('loss') or {}
    if (
        _name(head) in HEADS
        and loss.get('use_sigmoid')
        and 'loss_weight' not in loss
        and head.get('num_classes')
    ):
        loss['loss_weight'] = 1 / head['num_classes']
        changes.append(
            f'head.loss with use_sigmoid=True now needs loss_weight=1/{head["num_classes"]}, '
            'that is 1/num_classes'
        )
    return changes


def _name(part: dict) -> str:
    return str(part.get('type')).rpartition('.')[2]


def _spell(arguments: dict) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in arguments.items())
