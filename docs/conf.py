"""How the documentation is built: ``make docs``."""

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models, on which threads only wait for each other

sys.path.insert(0, str(Path(__file__).parent))  # sitegen, which writes the generated pages

import sitegen

import sb3_ppo_variants

project = "sb3_ppo_variants"
author = "The sb3_ppo_variants developers"
version = release = sb3_ppo_variants.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sitegen.formulas",
]
exclude_patterns = ["_build", "sitegen", "data", "examples", "generated"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_block"]
myst_heading_anchors = 3

html_math_renderer = "mathml"

# The build needs no network. With one, DOCS_INTERSPHINX=1 links names of other packages to their documentation.
if os.environ.get("DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "stable_baselines3": ("https://stable-baselines3.readthedocs.io/en/master", None),
        "sb3_contrib": ("https://sb3-contrib.readthedocs.io/en/master", None),
        "gymnasium": ("https://gymnasium.farama.org", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "optuna": ("https://optuna.readthedocs.io/en/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
    }

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures show them where there is room; the text has units and ranges
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "sb3_ppo_variants"
html_static_path = ["_static"]
html_extra_path = ["generated/extra"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Sphinx) -> None:
    """Write the generated pages before the configuration is checked and the sources are read."""
    app.connect("config-inited", lambda app, _: sitegen.write_all(Path(app.srcdir)), priority=1)
