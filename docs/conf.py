"""Sphinx: the pages as they lie in the repository, and the API beside them.

The repository itself is the source folder, so that a link between two pages
is the same on the site as in a checkout.
"""

from mmtlalign.version import __version__

project = 'mmtlalign'
author = 'mmtlalign authors'
copyright = 'mmtlalign authors, Apache-2.0'
version = release = __version__

root_doc = 'docs/index'
include_patterns = ['*.md', 'docs/**', 'configs/**/README.md', 'zoo/README.md', 'projects/**/*.md']
# Folders without pages, not even looked through: some are large.
exclude_patterns = ['.*', 'build', 'data', 'dist', 'mmtlalign', 'tests', 'tools', 'work_dirs']
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']

# Pages link to headings of one another, as GitHub names them.
myst_heading_anchors = 4

# What __all__ names, or a page asks for, in the order of the files.
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
python_maximum_signature_line_length = 79
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# A name of ours in a docstring must be one that the site has.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!mmtlalign\.).*'), ('py:.*', r'.*\._\w+')]

html_theme = 'furo'
html_title = f'mmtlalign {release}'
html_static_path = []
