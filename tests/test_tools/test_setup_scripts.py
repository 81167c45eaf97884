"""The set-up scripts, run on a copy of them with a stand-in for python.

The stand-in answers what the scripts ask of an interpreter and of pip, writes
down what pip was told to do, and fails where a test wants it to. Nothing is
downloaded or installed.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT

# All that a bare machine needs besides python and, for --ops, a compiler.
COMMANDS = (
    'awk bash basename cat cksum dirname du find getconf grep gzip head ls mkdir mv rm '
    'sha256sum sleep sort tail tar touch uname wc'
)
FOR_THE_STAND_IN = 'cp'

FAKE_PYTHON = r"""#!/usr/bin/env bash
last=${!#}
case "$*" in
    *version_info*) echo "${FAKE_VERSION-3.11}" ;;
    *ensurepip*) [ -z "${FAKE_NO_VENV:-}" ] ;;
    *CDLL*) [ "$last" != "${FAKE_NO_LIBRARY:-}" ] ;;
    *get_path*) echo "$FAKE_HEADERS" ;;
    *'-m venv --clear'*)
        rm -rf "$last" && mkdir -p "$last/bin" && cp "$0" "$last/bin/python" ;;
    *'pip --version'*) ;;
    *'pip install'*)
        echo "$*" >>"$FAKE_LOG"
        [ -z "${FAKE_INTERRUPT:-}" ] || kill -TERM $PPID ;;
    *'pip download'*'onedl-mmcv=='*)
        echo "$*" >>"$FAKE_LOG"
        while [ "$1" != -d ]; do shift; done
        mkdir -p "$2/onedl_mmcv-1" && touch "$2/onedl_mmcv-1/setup.py"
        tar -czf "$2/onedl_mmcv-1.tar.gz" -C "$2" onedl_mmcv-1 ;;
    *'pip download'*) [ -z "${FAKE_OFFLINE:-}" ] ;;
    *'pip wheel'*)
        echo "$* CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-unset}" \
            >>"$FAKE_LOG"
        [ -z "${FAKE_BROKEN:-}" ] ||
            { echo 'x.cpp:1: error: no such thing'; exit 1; }
        [ -f "$last/setup.py" ] || exit 1
        while [ "$1" != -w ]; do shift; done
        touch "$2/mmcv.whl" ;;
    *'import mmcv.ops'*) grep -q 'mmcv.whl' "$FAKE_LOG" ;;
    -) echo "${FAKE_OPS:-none cpu the-key}" ;;
    *import*) ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


class Project:
    """A copy of the scripts in a folder of its own, and how to run them."""

    def __init__(self, folder: Path):
        self.root = folder / 'a checkout'
        self.log = folder / 'pip.log'
        self.wheels = folder / 'cache' / 'mmtlalign' / 'wheels'
        self.bin = folder / 'bin'
        (folder / 'include').mkdir()
        (folder / 'include' / 'Python.h').touch()
        shutil.copytree(ROOT / 'requirements', self.root / 'requirements')
        shutil.copy(ROOT / 'setup.py', self.root)
        (self.root / 'tools').mkdir()
        for script in ('setup_env.sh', 'quickstart.sh'):
            shutil.copy(ROOT / 'tools' / script, self.root / 'tools')
        self.bin.mkdir()
        for command in f'{COMMANDS} {FOR_THE_STAND_IN}'.split():
            (self.bin / command).symlink_to(shutil.which(command))
        self.put('python3', FAKE_PYTHON)
        self.put('g++', '#!/usr/bin/env bash\n')
        self.put('df', '#!/usr/bin/env bash\necho header\necho disk 0 0 100000000 0% /\n')
        self.env = dict(
            PATH=str(self.bin),
            HOME=str(folder),
            FAKE_LOG=str(self.log),
            XDG_CACHE_HOME=str(folder / 'cache'),
            FAKE_HEADERS=str(folder / 'include'),
        )

    def put(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, script, *options, **env):
        """From another folder, as somebody might."""
        return subprocess.run(
            ['bash', str(self.root / 'tools' / script), *options],
            cwd=self.bin,
            env={**self.env, **env},
            capture_output=True,
            text=True,
        )

    def pip(self):
        """What pip was asked to install, download or build so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    'env, message',
    [
        ('FAKE_VERSION=3.9', 'Python 3.10 to 3.13 is needed, but python3 is 3.9; install one'),
        ('FAKE_VERSION=3.14', 'python3 is 3.14;'),
        ('PYTHON=no-such-python', 'but there is none;'),
        ('FAKE_NO_VENV=1', 'apt-get install python3-venv'),
        (
            'FAKE_NO_LIBRARY=libGL.so.1',
            'libGL.so.1 is missing (OpenCV needs it); on Debian and Ubuntu: apt-get install libgl1',
        ),
        ('FAKE_NO_LIBRARY=libgthread-2.0.so.0', 'libglib2.0-0'),
        ('FAKE_OFFLINE=1', 'no network'),
        ('CXX=no-such-compiler', 'the C++ compiler no-such-compiler is missing'),
        (
            'FAKE_HEADERS=/nowhere',
            'Python.h is missing in /nowhere; on Debian and Ubuntu: apt-get install python3-dev',
        ),
        ('--opps', 'unknown option --opps: --ops and --dev are known'),
    ],
)
def test_one_line_before_any_work(project, env, message):
    name, _, value = env.partition('=')
    options, env = (['--ops'], {name: value}) if value else ([name], {})
    result = project.run('setup_env.sh', *options, **env)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert project.pip() == []


def test_goes_on_after_an_interruption_and_does_nothing_twice(project):
    result = project.run('setup_env.sh', FAKE_INTERRUPT='1')
    assert result.returncode == 1
    assert 'interrupted: run bash' in result.stderr
    assert len(project.pip()) == 1
    project.log.unlink()
    first = project.run('setup_env.sh', '--dev')
    assert first.returncode == 0, first.stderr
    assert first.stdout.index('3 GB of downloads') < first.stdout.index('installing mmtlalign')
    assert [line.split()[-1] for line in project.pip()] == ['checkout', 'checkout[dev]']
    project.log.unlink()
    # Neither the network nor the machine's python is asked any more.
    second = project.run('setup_env.sh', '--dev', FAKE_OFFLINE='1', PYTHON='no-such-python')
    assert second.returncode == 0, second.stderr
    assert project.pip() == []


def test_operators_are_compiled_once(project):
    """After a failure from the sources that are there, and then kept for other checkouts, away
    from pip's own cache."""
    broken = project.run('setup_env.sh', '--ops', FAKE_BROKEN='1')
    assert broken.returncode == 1
    assert 'x.cpp:1: error: no such thing' in broken.stderr
    assert Path(broken.stderr.split('output is in ')[-1].strip()).is_file()
    first = project.run('setup_env.sh', '--ops')
    assert first.returncode == 0, first.stderr
    assert sum('pip download' in line for line in project.pip()) == 1
    assert 'about ten minutes on two cores' in first.stdout
    build, install = project.pip()[-2:]
    for option in ('--no-build-isolation', '--no-cache-dir', '--no-deps'):
        assert option in build
    # A GPU without a fitting nvcc must not start a CUDA build.
    assert build.endswith('CUDA_VISIBLE_DEVICES=')
    wheel = project.wheels / 'the-key' / 'mmcv.whl'
    assert install.endswith(str(wheel)) and '--force-reinstall' in install
    assert not (project.root / '.venv' / 'build').exists()

    shutil.rmtree(project.root / '.venv')
    project.log.unlink()
    second = project.run('setup_env.sh', '--ops')
    assert second.returncode == 0, second.stderr
    assert not any('wheel --no-deps' in line for line in project.pip())
    assert project.pip()[-1].endswith(str(wheel))


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['changed', 'added', 'writable'])
def test_a_kept_wheel_that_may_be_a_strangers_is_built_again(project, damage):
    assert project.run('setup_env.sh', '--ops').returncode == 0
    folder = project.wheels / 'the-key'
    if damage == 'changed':
        (folder / 'mmcv.whl').write_text('something else')
    elif damage == 'added':
        (folder / 'planted.whl').write_text('something else')
    else:
        folder.chmod(0o777)
    shutil.rmtree(project.root / '.venv')
    project.log.unlink()
    result = project.run('setup_env.sh', '--ops')
    if damage == 'writable':  # and stays so: nothing from there is installed
        assert result.returncode == 1
        assert not any(str(folder) in line for line in project.pip())
    else:
        assert result.returncode == 0, result.stderr
        assert any('wheel --no-deps' in line for line in project.pip())
    assert 'is left out' in result.stdout


# The quickstart with a stand-in for the trained model --------------------

GOOD = {'accuracy/top1': 95.0, 'coco/segm_mAP_50': 0.955, 'mIoU': 96.5}
FAKE_VENV_PYTHON = r"""#!/usr/bin/env bash
echo "$*" >>"$FAKE_LOG"
for argument in "$@"; do
    [ "${previous:-}" != --work-dir ] || out=$argument
    previous=$argument
done
case "$*" in
    *tools/train.py*)
        [ -z "${FAKE_KILLED:-}" ] || exit 1
        mkdir -p "$out/20250101_000000/vis_data"
        touch "$out/20250101_000000/20250101_000000.log" \
            "$out/20250101_000000/vis_data/scalars.json" "$out/epoch_2.pth"
        echo /an/old/place/epoch_2.pth >"$out/last_checkpoint" ;;
    *tools/test.py*)
        mkdir -p "$out/20250101_000001"
        echo "$FAKE_METRICS" >"$out/20250101_000001/20250101_000001.json" ;;
    *json) exec "$REAL_PYTHON" "$@" ;;
esac
"""


@pytest.fixture
def quickstart(project):
    """Run the quickstart in a checkout that is set up."""
    (project.root / '.venv/bin').mkdir(parents=True)
    project.put('../a checkout/.venv/bin/python', FAKE_VENV_PYTHON)
    (project.root / 'tools/setup_env.sh').write_text('echo set up\n')

    def start(*options, metrics=GOOD, **env):
        env.update(FAKE_METRICS=json.dumps(metrics), REAL_PYTHON=sys.executable)
        return project.run('quickstart.sh', *options, **env)

    return start


def trained(project):
    """Commands so far, relative to the checkout, whose own path has a blank."""
    log = project.log.read_text().replace(f'{project.root}/', '')
    return [line for line in log.splitlines() if line.startswith('tools/train.py')]


def test_quickstart_goes_on_and_names_what_it_made(quickstart, project):
    killed = quickstart(FAKE_KILLED='1')
    assert killed.returncode == 1 and 'to go on' in killed.stderr
    result = quickstart()
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('set up\n')
    accuracy, *lines = result.stdout.splitlines()[-5:]
    assert '95.00 %' in accuracy
    out, run = project.root / 'work_dirs/quickstart', '20250101_000000'
    made = ('epoch_2.pth', f'{run}/{run}.log', 'curves.png', 'alignment.png')
    for line, name in zip(lines, made, strict=True):
        assert line.endswith(str(out / name))
    assert len(trained(project)) == 2 and all('--resume' in line for line in trained(project))
    (out / 'leftover').touch()
    for accuracy, status in ((91.99, 1), (92, 0)):
        again = quickstart(metrics={'accuracy/top1': accuracy})
        assert again.returncode == again.stderr.count('\n') == status
        assert ('below 92 %' in again.stderr) is bool(status)
    assert (out / 'leftover').exists()
    assert quickstart('--fresh').returncode == 0
    assert not (out / 'leftover').exists()


@pytest.mark.slow
def test_full_quickstart_transfers_the_digits(quickstart, project):
    result = quickstart('--full', '--fresh')
    assert result.returncode == 0, result.stderr
    out, options = 'work_dirs/quickstart-full', ' --resume'
    for line, task in zip(
        trained(project), ('classification', 'detection', 'segmentation'), strict=True
    ):
        config, work_dir = line.removeprefix('tools/train.py ').split(' --work-dir ')
        assert config.startswith(f'configs/{task}/') and (ROOT / config).is_file()
        name = task.replace('classification', 'digits')
        assert work_dir == f'{out}/{name}{options}'
        options = ' --resume --cfg-options model.backbone.init_cfg.checkpoint='
        options += f'{out}/digits/epoch_2.pth'
    assert 'mask AP50 95.50 %' in result.stdout and 'mIoU 96.50 %' in result.stdout
    for task in ('detection', 'segmentation'):
        shown = f'{out}/{task}/epoch_2.pth --out-dir '
        assert shown in project.log.read_text().replace(f'{project.root}/', '')
    failed = quickstart('--full', metrics={**GOOD, 'mIoU': 0.01})
    assert failed.returncode == 1 and 'the mIoU of 0.01 % is below' in failed.stderr
    random = quickstart('--full', '--random', metrics={**GOOD, 'mIoU': 1.0})
    assert random.returncode == 0
    assert project.log.read_text().count('model.backbone.init_cfg=None') == 2
