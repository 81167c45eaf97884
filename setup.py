from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name):
    """Lines of ``requirements/<name>.txt`` without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


version = {}
exec((ROOT / 'mmtlalign' / 'version.py').read_text(), version)
extras = {name: requirements(name) for name in ('det', 'seg', 'dev')}

setup(
    name='mmtlalign',
    version=version['__version__'],
    description='Token-label alignment (TL-Align) for vision transformers',
    author='mmtlalign authors',
    license='Apache-2.0',
    packages=find_packages(include=['mmtlalign*']),
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require=extras)
