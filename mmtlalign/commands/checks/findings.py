"""What a look at a data set has found, and how it is said."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from mmtlalign.errors import in_one_line

NUM_NAMED = 10  # classes named in a line


@dataclass
class Findings:
    """Of one data set."""

    where: str  # its place in the config
    images: int = 0  # that it reads
    unit: str = 'images'  # what is counted, or 'boxes', or 'pixels'
    counts: dict = field(default_factory=dict)  # by class, those without any included
    complete: bool = True  # whether all of it was read, not a sample
    left_out: list = field(default_factory=list)  # what is there and not read, with counts
    warnings: list = field(default_factory=list)  # what is no error and may be a mistake
    files: list = field(default_factory=list)  # and folders, that this depends on

    @property
    def name(self) -> str:
        """Short: 'train', or 'train.datasets.1' of several."""
        return self.where.replace('_dataloader', '').replace('.dataset', '', 1)

    def all_warnings(self) -> list[str]:
        """Those found, and one on classes that nothing belongs to."""
        unused = [name for name, count in self.counts.items() if not count]
        if not unused or not self.complete:
            return list(self.warnings)
        more = ', ...' * (len(unused) > NUM_NAMED)
        return [
            *self.warnings,
            f'{len(unused)} of {len(self.counts)} classes of {self.where} '
            f'are in no annotation: {", ".join(unused[:NUM_NAMED])}{more}',
        ]

    def as_dict(self) -> dict:
        """In JSON's types, without the files."""
        found = asdict(self)
        del found['files']
        return {**found, 'warnings': self.all_warnings()}


def report(findings: Sequence[Findings]) -> Iterator[str]:
    """Three lines on all data sets, and one for each warning; names are those
    of files, and cannot write to the terminal."""
    yield from map(in_one_line, _lines(findings))


def _lines(findings: Sequence[Findings]) -> Iterator[str]:
    yield 'images: ' + '; '.join(f'{found.name} {found.images}' for found in findings)
    yield 'per class: ' + '; '.join(map(_counts, findings))
    yield 'left out: ' + '; '.join(
        f'{found.name} {", ".join(found.left_out) or "nothing"}' for found in findings
    )
    for found in findings:
        for warning in found.all_warnings():
            yield f'warning: {warning}'


def _counts(found: Findings) -> str:
    counts = found.counts
    if not counts:
        return f'{found.name} not known'
    parts = [f'{name} {count}' for name, count in counts.items()]
    if len(parts) > NUM_NAMED:
        names = sorted(counts, key=counts.__getitem__, reverse=True)
        parts = [f'{name} {counts[name]}' for name in (*names[:3], *names[-3:])]
        parts.insert(3, '...')
    sample = '' if found.complete else ' of a sample'
    return (
        f'{found.name} {sum(counts.values())} {found.unit}{sample} in '
        f'{len(counts)} classes ({", ".join(parts)})'
    )
