import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def requirements(name):
    """Lines of ``requirements/<name>.txt`` without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


class BuildWithConfigs(build_py):
    """Pack configs and tools where OpenMMLab's packages have them, in .mim.

    An editable installation finds them in the checkout, and so does mim, which
    takes a second copy in there for an ambiguity.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        packed = Path(self.build_lib, 'mmtlalign', '.mim')
        shutil.rmtree(packed, ignore_errors=True)  # of an earlier build
        for folder in ('configs', 'tools'):
            shutil.copytree(
                ROOT / folder, packed / folder, ignore=shutil.ignore_patterns('__pycache__')
            )
        shutil.copy(ROOT / 'model-index.yml', packed)


version = {}
exec((ROOT / 'mmtlalign' / 'version.py').read_text(), version)
extras = {
    name: requirements(name)
    for name in (
        *('completion', 'det', 'seg', 'dev', 'docs', 'export', 'hf', 'timm', 'web'),
        *('tensorboard', 'wandb', 'mlflow', 'aim'),
    )
}
# the tests write and run ONNX, read parquet, trace backbones of timm, complete
# commands, drive the page; CI builds the site
for name in ('export', 'hf', 'timm', 'completion', 'web', 'docs'):
    extras['dev'] += extras[name]

setup(
    name='mmtlalign',
    version=version['__version__'],
    description='Token-label alignment (TL-Align) for vision transformers',
    author='mmtlalign authors',
    license='Apache-2.0',
    packages=find_packages(include=['mmtlalign*']),
    package_data={name: ['*.j2'] for name in ('mmtlalign.apis', 'mmtlalign.visualization.report')},
    cmdclass=dict(build_py=BuildWithConfigs),
    entry_points=dict(console_scripts=['mmtlalign = mmtlalign.__main__:main']),
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require=extras,
)
