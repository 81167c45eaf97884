"""The records in the lists of a large JSON object, one by one."""

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from ijson import JSONError, get_backend

CHUNK = 1 << 20  # bytes
MAX_DEPTH = 100  # of lists and objects in one another; COCO has five
NAME = b'"rows"'  # of all lists, to the parser
QUOTE, OPEN, CLOSE = 1, 2, 3
KINDS = np.zeros(256, np.uint8)
KINDS[list(b'"')], KINDS[list(b'[{')], KINDS[list(b']}')] = QUOTE, OPEN, CLOSE


class JSONRowsError(ValueError):
    """The file is no JSON object that can be read."""


def read_rows(file: BinaryIO, keys: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Yield (key, record) of the lists under some keys, in one pass.

    Args:
        file (BinaryIO): A JSON object, of any size.
        keys (Sequence[str]): Of lists in it, in any order in the file.

    Raises:
        JSONRowsError: If it is no JSON, no object, or too deep.
    """
    stream = _OneList(file, keys)
    try:
        for row in get_backend('yajl2_c').items(
            stream, f'{NAME[1:-1].decode()}.item', use_float=True, buf_size=CHUNK
        ):
            if stream.key in keys:
                yield stream.key, row
    except JSONError as error:
        text = error.args[0]
        if isinstance(text, bytes):
            text = text.decode(errors='replace')
        reason, *excerpt = text.splitlines()
        near = excerpt[0].strip()[:60] if excerpt else ''
        raise JSONRowsError(f'{reason.rstrip(".")} near {near!r}') from None


class _OneList:
    """The file as the parser is to see it.

    The parser's fast way follows one list in a file. So those that are wanted
    all get one name; a chunk ends where a key of the object begins, and all
    its records have been yielded before the next is asked for.

    The parser keeps a path for every level, which takes the square of the depth, and the host's
    recurses: neither is for a file that goes down and down, hence the limit.
    """

    def __init__(self, file: BinaryIO, keys: Sequence[str]) -> None:
        self.file = file
        self.keys = {key.encode() for key in keys}
        self.key = ''
        self.seen: set[bytes] = set()
        self.level, self.in_text = 0, False
        self.before = b''  # the last byte that is no white space
        self.rest = b''  # of a chunk that was cut within a key or an escape
        self.pieces: list[tuple[str | None, bytes]] = []

    def read(self, size: int) -> bytes:
        """The next part of the file, of whatever size."""
        if not size:
            return b''
        while not self.pieces:
            chunk = self.file.read(CHUNK)
            if not chunk:
                if not self.before:
                    raise JSONRowsError('it is empty')
                rest, self.rest = self.rest, b''
                return rest
            self.pieces = self.cut(self.rest + chunk)
        key, piece = self.pieces.pop(0)
        if key is not None:
            self.key = key
        return piece

    def cut(self, chunk: bytes) -> list[tuple[str | None, bytes]]:
        """Pieces, each but the first with the key that it begins with."""
        plain = chunk
        self.rest = b''
        if b'\\' in chunk:
            if (len(chunk) - len(chunk.rstrip(b'\\'))) % 2:
                chunk, self.rest = chunk[:-1], b'\\'
            plain = re.sub(rb'\\.', b'__', chunk, flags=re.DOTALL)
        kinds = KINDS[np.frombuffer(plain, np.uint8)]
        places = np.flatnonzero(kinds)
        kinds = kinds[places]
        quotes = kinds == QUOTE
        in_text = (np.cumsum(quotes) + self.in_text) % 2 == 1
        steps = np.where(kinds == OPEN, 1, -1)
        steps[quotes | in_text] = 0
        levels = self.level + np.cumsum(steps)
        if levels.max(initial=0) > MAX_DEPTH:
            raise JSONRowsError(f'lists or objects lie in one another more than {MAX_DEPTH} deep')
        starts = np.flatnonzero(quotes & in_text & (levels == 1))
        end = len(chunk)
        if len(starts) and starts[-1] + 1 == len(places):
            end = places[starts[-1]]  # in a key or text that goes on
            self.rest, starts = chunk[end:] + self.rest, starts[:-1]
            if end == 0:
                return []
            kept = places < end
            levels, in_text = levels[kept], in_text[kept]
        pieces = self.pieces_at(chunk[:end], [(places[i], places[i + 1]) for i in starts])
        if len(levels):
            self.level, self.in_text = int(levels[-1]), bool(in_text[-1])
        if not self.before and chunk.lstrip():
            first = chunk.lstrip()[:1]
            if first in (b'[', b'"') or first.isdigit():  # only an object has lists under keys
                kind = {b'[': 'a list', b'"': 'a text'}.get(first, 'a number')
                raise JSONRowsError(f'it holds {kind} and no object')
        self.before = chunk[:end].rstrip()[-1:] or self.before
        return pieces

    def pieces_at(self, chunk: bytes, texts: list) -> list:
        """Cut before the texts that are keys; rename those of the lists."""
        pieces: list[tuple[str | None, bytes]] = []
        key, start, name = None, 0, b''
        for first, last in texts:
            before = chunk[:first].rstrip()[-1:] or self.before
            if before == b':':
                continue  # a value
            pieces.append((key, name + chunk[start:first]))
            text = chunk[first + 1 : last]
            if text in self.seen:  # the host takes the last one alone
                raise JSONRowsError(f'{text.decode()!r} is there twice')
            key, start, name = text.decode(errors='replace'), first, b''
            if text in self.keys:
                self.seen.add(text)
                start, name = last + 1, NAME
        pieces.append((key, name + chunk[start:]))
        return [(key, piece) for key, piece in pieces if piece]
