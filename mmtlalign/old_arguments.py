"""What release 0.1 wrote in configs of classifiers, and what to write now."""

# Classifiers that had `aligned` and `monitor`, with the default of the former
CLASSIFIERS = dict(TLAlignClassifier=True, TokenLabelClassifier=False)
# Heads that divided binary cross entropy by the number of classes
HEADS = ('TLAlignVisionTransformerClsHead', 'TLAlignLinearClsHead', 'TokenLabelHead')


def modernise(model: dict) -> list[str]:
    """Rewrite old arguments of a model in place, so that old files go on working.

    Returns:
        list[str]: What was written and what is now, one text per argument.
    """
    changes = []
    default = CLASSIFIERS.get(_name(model))
    if default is None:
        return changes
    old = {key: model.pop(key) for key in ('aligned', 'monitor') if key in model}
    if old:
        aligned = bool(old.get('aligned', default))
        target: dict = dict(type=f'mmtlalign.{"Aligned" if aligned else "Area"}Target')
        if old.get('monitor') and not aligned:
            target['monitor'] = True
        if aligned != default or 'monitor' in target:
            model['target'] = target
        changes.append(f'{_spell(old)} is now target=dict({_spell(target)})')
    head = model.get('head') or {}
    loss = head.get('loss') or {}
    classes = head.get('num_classes')
    if _name(head) in HEADS and loss.get('use_sigmoid') and 'loss_weight' not in loss and classes:
        loss['loss_weight'] = 1 / classes
        changes.append(
            f'head.loss with use_sigmoid=True now needs loss_weight=1/{classes}, '
            'that is 1/num_classes'
        )
    return changes


def _name(part: dict) -> str:
    return str(part.get('type')).rpartition('.')[2]


def _spell(arguments: dict) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in arguments.items())
