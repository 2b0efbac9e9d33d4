"""How the pages become a site: Sphinx with MyST Markdown and furo; `make docs` builds it with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

import mixopt

sys.path.insert(0, str(Path(__file__).parent))

project = "mixopt"
author = "the mixopt contributors"
copyright = "2026, the mixopt contributors"
release = version = mixopt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "extension"]
exclude_patterns = ["pictures"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

smartquotes = False  # "--json" is not a dash

html_theme = "furo"
html_title = f"mixopt {release}"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_css_files = ["mixopt.css"]
html_static_path = ["static"]
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 100

# Types of other libraries have no page here, the site is built without a network to look for theirs, and not every record that
# a signature names has a page: such a name stays plain text.
nitpick_ignore_regex = [(r"py:.*", r"(?!mixopt\.).*|mixopt\.\w+\.\w+\..*")]
