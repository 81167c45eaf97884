"""All that is in a config, with its dotted keys."""

from collections.abc import Iterator


def walk(node, path: str = '') -> Iterator[tuple[str, object]]:
    """Dotted path and value of a node and of all below it; dicts, lists and
    tuples come before what they hold.

    Args:
        node: Nested dicts, lists and tuples.
        path (str): Its own. Defaults to '', the top.
    """
    yield path, node
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, (list, tuple))
        else ()
    )
    for key, child in items:
        yield from walk(child, f'{path}.{key}' if path else str(key))
