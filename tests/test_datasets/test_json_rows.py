"""Records of lists in a JSON object, against the whole of it parsed."""

import io
import json

import pytest

from mmtlalign.datasets import json_rows
from mmtlalign.datasets.json_rows import MAX_DEPTH, JSONRowsError, read_rows

DOCUMENT = {
    'info': {'images': [1, 2]},
    'type': 'images',
    'images': [{'a': 'x"[{\\ü,]'}, {'b': [1, [2.5]]}, 3],
    'rows': [7],
    'licenses': 'annotations',
    'empty': [],
    'annotations': [4, {'images': [9]}],
    'categories': {'no': 'list'},
    'a key "images": [': [5],
    '\\': '\\"',
}
KEYS = ('images', 'annotations', 'categories')


def rows_of(text):
    content = text if isinstance(text, bytes) else text.encode()
    return list(read_rows(io.BytesIO(content), KEYS))


@pytest.mark.parametrize(
    'step, style',
    [(1, dict()), (1, dict(indent=2)), (-1, dict(ensure_ascii=False, separators=(',', ':')))],
)
def test_all_records_come_whatever_the_order(step, style, monkeypatch):
    """With chunks that end at every place of the text."""
    document = dict(list(DOCUMENT.items())[::step])
    expected = [
        (key, row)
        for key, rows in document.items()
        if key in KEYS and isinstance(rows, list)
        for row in rows
    ]
    text = json.dumps(document, **style)
    for chunk in [*range(1, 30), 47, len(text), 1 << 20]:
        monkeypatch.setattr(json_rows, 'CHUNK', chunk)
        assert rows_of(text) == expected


@pytest.mark.parametrize(
    'text, complaint',
    [
        ('', 'is empty'),
        ('[]', 'a list and no object'),
        ('"a"', 'a text and no object'),
        ('3', 'a number and no object'),
        ('{"images": [NaN]}', 'lexical error'),
        ('{"images": [{"a": -Infinity}]}', 'error'),
        ('{"images": [1e999]}', 'overflow'),
        ('{"images": [1', 'premature EOF'),
        ('{"images": [1]} x', 'garbage'),
        ('{"images": [1], "images": []}', "'images' is there twice"),
        (b'{"a": "\xff"}', 'UTF8'),
        (b'\xff\xfe{}', 'lexical error'),
        ('{"a": "\\', 'error'),
        ('{"images', 'EOF'),
    ],
)
def test_what_is_no_object_is_refused(text, complaint):
    with pytest.raises(JSONRowsError, match=complaint) as error:
        rows_of(text)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('open_, close', ['[]', ('{"a":', '}')])
def test_depth_is_limited(open_, close):
    def nested(depth):
        inner = open_ * depth + json.dumps('[' * 500 + '\\"{') + close * depth  # a text has none
        return f'{{"images": [{inner}]}}'

    assert len(rows_of(nested(MAX_DEPTH - 2))) == 1
    with pytest.raises(JSONRowsError, match=f'more than {MAX_DEPTH} deep'):
        rows_of(nested(MAX_DEPTH - 1))
    with pytest.raises(JSONRowsError, match='deep'):
        rows_of('{"x":' + open_ * 500_000)  # without an end
