"""Sphinx over the pages that pages.py writes."""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import colab
import pages
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx import addnodes

sidebar, navbar = pages.site_map()
static = pages.PROC / "static"


pages.bring("sphinx-mathjax-offline", "tex-svg-full.js", folder=static / "mathjax")
faces = ""
for package, name in ("font-source-serif-pro", "SourceSerifPro"), ("font-source-sans-pro", "SourceSansPro"):
    for cut, look in ("Regular", "400"), ("It", "400; font-style: italic"), ("Semibold", "600"):
        if pages.bring(package, f"{name}-{cut}.ttf", folder=static / "fonts"):
            faces += f"@font-face {{ font-family: {name}; font-weight: {look}; src: url(fonts/{name}-{cut}.ttf); }}\n"
(static / "fonts.css").write_text(faces, encoding="utf-8")

project = pages.cfg.title
author, copyright = pages.cfg.author, pages.cfg.copyright
version = release = pages.cfg.version
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_copybutton"]
templates_path = ["templates"]

myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline, myst_dmath_allow_labels = True, False  # only equations with a \tag are numbered
myst_mathjax_classes = "math|text_html"  # besides Markdown's own, the $...$ of tables that code makes
myst_disable_syntax = ["myst_role", "myst_target", "myst_block_break", "myst_line_comment"]  # plain Markdown
myst_heading_anchors, myst_heading_slug_func = 6, "pages.slug"
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_merge_streams = True
nb_ipywidgets_js = {}  # the default is a CDN
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other projects in signatures
suppress_warnings = ["myst.header"]  # show_doc's headings are ### wherever they stand

mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"tex": {"inlineMath": [["\\(", "\\)"], ["$", "$"]]}, "options": {"enableMenu": False}}

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static", str(static)]
html_favicon = "static/favicon.svg"
html_search_scorer = str(Path(__file__).parent / "static" / "scorer.js")
html_css_files = ["fonts.css", "site.css"]
html_copy_source = html_show_sourcelink = False
html_use_index = html_domain_indices = False
html_show_search_summary = False  # fetches pages, which a browser forbids on file://
html_sidebars = {"**": ["nav.html"]}
html_context = {
    "nav": sidebar, "navbar": navbar, "default_mode": "auto",
    "colab": colab.HUB, "binder": f"https://mybinder.org/v2/gh/{pages.cfg.user}/{pages.cfg.repo}/{pages.cfg.branch}?urlpath=lab/tree/nbs/",
    "notebook_of": {pages.page(nb): nb.as_posix() for nb in pages.notebooks()},
}
toc_object_entries_show_parents = "hide"
add_module_names = False
python_maximum_signature_line_length = 104
html_theme_options = {
    "show_toc_level": 2, "navbar_center": ["navbar.html"], "navbar_align": "left",
    "icon_links": [{"name": "Repository", "url": pages.cfg.git_url, "icon": "fa-brands fa-github"}],
    "article_header_start": [], "article_header_end": [], "secondary_sidebar_items": ["page-toc", "download"],
    "primary_sidebar_end": [], "footer_start": ["copyright"], "footer_end": [],
    "pygments_light_style": "friendly", "pygments_dark_style": "github-dark",
}


def display_math(self, node):
    """Sphinx's own renderer wraps equations with a line break in `split`, where `\\tag` is illegal."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    self.body.append(rf"\[{self.encode(node.astext())}\]</div>")
    raise nodes.SkipNode


def mark_up(app, doctree):
    """Anchors as nbdev expects them; classes for callouts, captions and the subtitle, which Markdown cannot name."""
    new, slugs = {}, {}
    for i, section in enumerate(doctree.findall(nodes.section)):
        name = base = pages.slug(section[0].astext()) if i else "top"  # the title must not take its class's anchor
        n = 0
        while name in slugs: name = f"{base}-{(n := n + 1)}"
        new.update(dict.fromkeys(section["ids"], name))
        section["ids"], slugs[name] = [name], (section.line, name, section[0].astext())
    app.env.metadata[app.env.docname]["myst_slugs"] = slugs
    for ref in doctree.findall(lambda n: isinstance(n, nodes.reference) and "refid" in n): ref["refid"] = new[ref["refid"]]
    for math in [m for m in doctree.findall(nodes.math_block) if isinstance(m.parent, nodes.paragraph)]:
        par, at = math.parent, math.parent.index(math)  # an equation inside a paragraph ends it, as in HTML
        par.parent.insert(par.parent.index(par) + 1, [math, nodes.paragraph("", "", *par.children[at + 1:])])
        del par[at:]
    for par in [p for p in doctree.findall(nodes.paragraph) if not p.astext().strip() and not list(p.findall(nodes.image))]:
        par.parent.remove(par)
    for par in doctree.findall(nodes.paragraph):
        inline = [n for n in par if n.astext()]
        if isinstance(inline[0], nodes.emphasis) and len(inline) == 1: par["classes"].append("caption")
        if isinstance(quote := par.parent, nodes.block_quote) and quote[0] is par:
            if isinstance(inline[0], nodes.strong): quote["classes"] += ["callout", pages.slug(inline[0].astext()).strip(".")]
            elif "top" in quote.parent["ids"] and quote.parent[1] is quote: quote["classes"].append("subtitle")


def searchable(app, doctree):
    """Let the search find "Adam signature": it reads the entries of the index too."""
    for entries in list(doctree.findall(addnodes.index)):
        if not isinstance(desc := entries.next_node(siblings=True, descend=False), addnodes.desc): continue
        anchor = desc[0]["ids"][0]
        short = ".".join(anchor.split(".")[-2 if desc["objtype"] in ("method", "property") else -1:])
        entries["entries"].append(("single", f"{short} signature", anchor, "main", None))


def source_pages(app):
    """A page for each module, with an anchor for each line, and a link to the notebook it is written in."""
    for path in sorted(pages.cfg.lib_path.rglob("*.py")):
        if path.name == "_modidx.py": continue
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(pages.ROOT).with_suffix("")
        nb = re.search(r"File to edit: (?:\.\./)+nbs/(\S+?)\.?$", text, re.M)
        yield f"source/{name.as_posix()}", {
            "title": ".".join(name.parts), "parents": [], "notebook": pages.page(nb[1]) if nb else None,
            "code": highlight(text, PythonLexer(), HtmlFormatter(linespans="L", wrapcode=True)),
        }, "source.html"


def configure(app):
    """Keep the pictures myst-nb extracts out of the project's root."""
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=str(pages.PROC / "outputs"))


def setup(app):
    app.set_html_assets_policy("always")
    app.registry.html_block_math_renderers["mathjax"] = (display_math, None)
    app.connect("builder-inited", configure, priority=600)  # after myst-nb's own
    app.connect("source-read", lambda app, name, source: print(f"Sphinx {name}", flush=True))
    app.connect("doctree-read", mark_up, priority=400)  # before the collector of the table of contents
    app.connect("env-get-outdated", lambda app, env, *changes: ["api"])  # an unread page would lose its entries in the search
    app.connect("doctree-read", searchable, priority=400)
    app.connect("html-collect-pages", source_pages)
