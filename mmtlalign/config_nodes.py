"""All that is in a config, with its dotted keys."""

from collections.abc import Iterator


def walk(node, path: str = '') -> Iterator[tuple[str, object]]:
    """Dotted path and value of a node and of all below it; dicts, lists and
    tuples come before what they hold."""
    yield path, node
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        for key, child in node.items():
            yield from walk(child, f'{path}.{key}' if path else str(key))
