"""The site. README says how to build it: the lessons are executed, warnings are errors.

Mathematics becomes MathML, which browsers draw by themselves, in the font STIX Two Math
that ziamath brings: no page loads anything from another place. The reference is written
by `reference.py`, from the docstrings.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import ziamath
from docutils import nodes
from latex2mathml.converter import convert

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference  # noqa: E402

import nanodiff  # noqa: E402

project, version = "nanodiff", nanodiff.__version__
copyright = "the contributors to nanodiff, MIT licence"  # noqa: A001
extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["_build", "package.md", "playground/**"]  # not pages of the site
html_theme, html_title = "furo", "nanodiff"
font = Path(ziamath.__file__).parent / "fonts/STIXTwoMath-Regular.ttf"
html_static_path, html_css_files = ["_static", str(font)], ["nanodiff.css"]
html_favicon = "_static/nanodiff.svg"
html_copy_source, html_show_sphinx = False, False
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"  # prompts, and what was printed
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors, myst_update_mathjax = 4, False
# lessons run in processes of their own, in which bars would be lines without end
os.environ |= {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress"}
os.environ["PYTHONPATH"] = str(HERE.parent)
nb_execution_mode, nb_execution_timeout = "force", 600
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide"
nb_execution_raise_on_error, nb_merge_streams = True, True
nb_render_markdown_format = "myst"  # which has tables


def formula(self, node):
    """A formula of a page, in a line or on a line of its own."""
    display = "inline" if isinstance(node, nodes.math) else "block"
    found = convert(node.astext(), display=display)
    # the macron that latex2mathml writes for a bar is as short as a dot
    self.body.append(found.replace("&#x000AF;", "&#x203E;"))
    raise nodes.SkipNode


def to_reference(app, name, source):
    """Where a page links to a file of the package, as in a clone, link to its page."""
    source[0] = re.sub(
        r"\]\(\.\./nanodiff/(\w+)\.py\)", r"](reference/\1.md)", source[0]
    )


def playground(app, error):
    """Copy the playground beside the pages, with what `npm run build` has made."""
    shutil.copytree(
        HERE / "playground", Path(app.outdir) / "playground", dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("node_modules", "test", "screenshots"),
    )  # fmt: skip


def setup(app):
    app.connect("build-finished", playground)
    app.connect("source-read", to_reference)
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("builder-inited", lambda app: reference.write(HERE / "reference"))
