"""``--track``: the real libraries hold what mmengine's own log holds.

Each in an environment of its own, ``.venv-NAME`` (docs/tracking.md says how to make one), offline.
"""

import json

import pytest
from mmengine.config import Config

from mmtlalign.commands.trackers import TRACKERS, earlier_ids, read_names, use_trackers
from mmtlalign.errors import UserError

from ..tiny import ROOT, run, write_project

# Prints as JSON: ids of the runs, their metrics as lists of (step, value), the
# config as text, and how many pictures there are.
READ = dict(
    tensorboard="""
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator('run/tensorboard', size_guidance=dict(scalars=0)).Reload()
metrics = {key: [(e.step, e.value) for e in found.Scalars(key)] for key in found.Tags()['scalars']}
config = found.Tensors('config/text_summary')[0].tensor_proto.string_val[0].decode()
ids, pictures = [], len(found.Images('alignment'))
""",
    wandb="""
import struct
from pathlib import Path
from wandb.proto import wandb_internal_pb2

def records(data):
    # LevelDB's log format behind a header of 7 bytes
    at, record = 7, b''
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack('<IHB', data[at:at + 7])
        record += data[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b''

ids, metrics, config, pictures = [], {}, '', 0
for path in sorted(Path('run/wandb').glob('offline-run-*/*.wandb')):
    for record in records(path.read_bytes()):
        if record.HasField('run'):
            ids.append(record.run.run_id)
        for update in [*record.config.update, *record.run.config.update]:
            config += f'{update.key} {"".join(update.nested_key)} {update.value_json}'
        row = {
            item.key or '.'.join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for key in row:
            if 'step' in row and isinstance(row[key], (int, float)):
                metrics.setdefault(key, []).append((row['step'], row[key]))
    pictures += len(list(path.parent.glob('files/media/images/alignment*.png')))
""",
    mlflow="""
import mlflow
client = mlflow.MlflowClient('sqlite:///run/mlflow/mlflow.db')
runs = client.search_runs([client.get_experiment_by_name('mmtlalign').experiment_id])
ids = [run.info.run_id for run in runs]
metrics = {
    key: [(m.step, m.value) for m in client.get_metric_history(ids[0], key)]
    for key in runs[0].data.metrics
}
artifacts = {file.path for file in client.list_artifacts(ids[0])}
pictures = int('alignment.png' in artifacts)
config = str(runs[0].data.params) * ('config.py' in artifacts)
""",
    aim="""
from aim import Repo, Run
from aim.storage.context import Context
ids = Repo('run/aim').list_all_runs()
# by its hash: with aim 3.29.1 a Repo lists no runs, of plain Aim neither
run = Run(ids[0], repo='run/aim', system_tracking_interval=None, capture_terminal_logs=False)
metrics = {}
for metric in run.metrics():
    steps, (values, *_) = metric.data.numpy()
    metrics[metric.name] = list(zip(map(int, steps), map(float, values)))
sequence = run.get_image_sequence('alignment', Context({}))
pictures = len(list(sequence.data.items())) if sequence else 0
config = run['config']
""",
)
PRINT = (
    'print("FOUND" + json.dumps(dict(ids=ids, metrics=metrics, config=config, pictures=pictures)))'
)


def python_of(name):
    """The interpreter of a tracker's environment."""
    python = ROOT / f'.venv-{name}/bin/python'
    if not python.exists():
        pytest.skip(f'no .venv-{name}: docs/tracking.md says how to make it')
    return python


@pytest.mark.slow
@pytest.mark.parametrize('name', TRACKERS)
def test_a_resumed_training_is_one_record(tmp_path, name):
    python = python_of(name)
    config = write_project(tmp_path)
    train = [python, ROOT / 'tools/train.py', config, '--work-dir', 'run', '--track', name]
    for options in ([], ['--resume', '--extend', '4']):
        done = run([*train, *options], tmp_path, WANDB_MODE='offline', WANDB_SILENT='true')
        assert done.returncode == 0, done.stderr
    read = run([python, '-c', f'import json\n{READ[name]}\n{PRINT}'], tmp_path)
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout.rpartition('FOUND')[2])

    kept = json.loads((tmp_path / 'run/trackers.json').read_text())
    if name == 'tensorboard':  # goes on where there are files
        assert kept == {}
    else:
        assert set(found['ids']) == {kept[name]}
    assert found['pictures'] >= 1
    assert 'TLAlignClassifier' in found['config']

    logs = sorted((tmp_path / 'run').glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    for key in ('loss', 'lr', 'accuracy/top1'):
        expected = [(row['step'], row[key]) for row in rows if key in row]
        assert len(logs) == 2 and len(expected) > 3
        assert [tuple(pair) for pair in found['metrics'][key]] == [
            (step, pytest.approx(value, rel=1e-6)) for step, value in expected
        ]


def test_ids_come_from_the_checkpoint_first(tmp_path):
    assert earlier_ids(str(tmp_path), None) == {}
    (tmp_path / 'trackers.json').write_text('{"wandb": "file"}')
    assert earlier_ids(str(tmp_path), None) == dict(wandb='file')
    checkpoint = dict(meta=dict(trackers=dict(wandb='checkpoint')))
    assert earlier_ids(str(tmp_path), checkpoint) == dict(wandb='checkpoint')


@pytest.mark.parametrize('text', ['[]', '{"wandb": 1}', 'no JSON', '3'])
def test_ids_that_are_none_are_refused(tmp_path, text):
    (tmp_path / 'trackers.json').write_text(text)
    with pytest.raises(UserError, match='are no ids by tracker'):
        earlier_ids(str(tmp_path), None)
    with pytest.raises(UserError, match='are no ids by tracker'):
        earlier_ids('gone', dict(meta=dict(trackers=dict(wandb=[1]))))


def test_what_is_not_installed_is_told_in_one_line(ends_with, monkeypatch, tmp_path):
    monkeypatch.setattr('mmtlalign.commands.trackers.find_spec', lambda name: None)
    line = "train.py: --track aim needs aim: pip install 'mmtlalign[aim]'"
    assert ends_with('train.py', 'tiny.py', '--track', 'aim') == line
    assert not (tmp_path / 'work_dirs').exists()


def test_a_folder_that_a_tracker_made_is_no_package(tmp_path, monkeypatch):
    """Weights & Biases leaves a folder of its name, which Python would find."""
    (tmp_path / 'guild').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TRACKERS, 'guild', 'Guild')
    assert read_names('guild') == ['guild']
    with pytest.raises(UserError, match='--track guild needs guild'):
        use_trackers(Config(dict(work_dir='run')), ['guild'], None)
