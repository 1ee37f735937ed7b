"""Make comments behind parameters part of the docstrings: `python docs/docstrings.py [FOLDER]`, a step of `make export`.

In a notebook an argument is explained where it stands, by nbdev's convention of a comment behind it. `help()` and editors
read docstrings only. So this rewrites the docstrings of the exported modules: what the comments say becomes the numpydoc
sections Parameters and Returns. A class gets those of its `__init__`, a dataclass those of its fields. Every other
line stays as it is, a section that the author wrote wins, and a second run changes nothing.
"""
import ast
import io
import re
import sys
import tokenize
from pathlib import Path

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.M)
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def comments_of(source):
    """Every comment by its line: (column, text, whether it stands alone)."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: (t.start[1], t.string.lstrip("# ").rstrip(), not t.line[:t.start[1]].strip())
            for t in tokens if t.type == tokenize.COMMENT}


def comment(comments, line, taken, first):
    """What is said about a parameter that ends on `line`: behind it, else in lines of its own above, as in nbdev."""
    if line in comments and not comments[line][2]: return comments[line][1]
    above = []
    while (line := line - 1) > first and line in comments and comments[line][2] and line not in taken:
        above.insert(0, comments[line][1])
    return " ".join(above)


def parameters(f, comments):
    """`[(name with stars, annotation, default, comment)]` of a function, and its return's `(annotation, comment)`."""
    a, body = f.args, f.body[0]
    positional = a.posonlyargs + a.args
    defaults = [None] * (len(positional) - len(a.defaults)) + a.defaults
    every = [*((arg, d, "") for arg, d in zip(positional, defaults)), *([(a.vararg, None, "*")] if a.vararg else []),
             *((arg, d, "") for arg, d in zip(a.kwonlyargs, a.kw_defaults)), *([(a.kwarg, None, "**")] if a.kwarg else [])]
    header = {n: c for n, c in comments.items() if (n, c[0]) < (body.lineno, body.col_offset)}  # not those of the body
    ends = {}  # the last parameter on a line owns the comment behind it
    for arg, default, _ in every: ends[(default or arg).end_lineno] = arg.arg
    if f.returns: ends[f.returns.end_lineno] = "return"
    found = []
    for arg, default, star in every:
        line = (default or arg).end_lineno
        said = comment(header, line, ends, f.lineno) if ends[line] == arg.arg else ""
        if said and arg.arg not in ("self", "cls"): found.append((star + arg.arg, arg.annotation, default, said))
    said = header.get(f.returns.end_lineno, (0, "", True)) if f.returns else (0, "", True)
    return found, (f.returns, "" if said[2] else said[1])


def fields(cls, comments):
    """Of a dataclass: its fields, as `parameters` gives them."""
    return [(n.target.id, n.annotation, n.value, said) for n in cls.body if isinstance(n, ast.AnnAssign)
            if (said := comment(comments, n.end_lineno, {m.end_lineno for m in cls.body}, cls.lineno))]


def section(title, entries):
    """A numpydoc section of `[(heading, text)]`."""
    return "\n".join([title, "-" * len(title), *(f"{head}\n    {text}" for head, text in entries)])


def heading(name, annotation, default):
    """`lr : float, default 1e-3`."""
    kind = ast.unparse(annotation).strip("'") if annotation else ""
    value = f"default {ast.unparse(default)}" if default and not isinstance(default, ast.Call) else ""
    return " : ".join(filter(None, [name, ", ".join(filter(None, [kind, value if kind else ""]))]))


def documented(text, params, returns):
    """The docstring `text` with sections for what is not documented there yet."""
    own = {m[1] for m in SECTION.finditer(text)}
    new = []
    if params and "Parameters" not in own: new.append(section("Parameters", [(heading(n, a, d), c) for n, a, d, c in params]))
    if returns[1] and "Returns" not in own: new.append(section("Returns", [(ast.unparse(returns[0]).strip("'"), returns[1])]))
    start = m.start() if (m := SECTION.search(text)) else len(text)
    return "\n\n".join(filter(None, [text[:start].strip(), *new, text[start:].strip()]))


def rewrite(source):
    """The module `source` with its comments on parameters in its docstrings."""
    tree, comments, edits = ast.parse(source), comments_of(source), []
    for node in ast.walk(tree):
        if not isinstance(node, FUNCTION | ast.ClassDef) or (old := ast.get_docstring(node)) is None: continue
        params, returns = [], (None, "")
        if not isinstance(node, ast.ClassDef): params, returns = parameters(node, comments)
        elif init := next((n for n in node.body if isinstance(n, FUNCTION) and n.name == "__init__"), None):
            params, _ = parameters(init, comments)
        elif any("dataclass" in ast.unparse(d) for d in node.decorator_list): params = fields(node, comments)
        new = documented(old, params, returns)
        if new == old: continue
        pad = " " * (node.col_offset + 4)
        body = "\n".join(pad + line if line else "" for line in f"{new}\n".splitlines() + [""]).strip()
        edits.append((node.body[0].value, f'{"r" * (chr(92) in new)}"""{body}\n{pad}"""'))
    lines = source.encode().splitlines(keepends=True)  # ast counts bytes
    for at, text in sorted(edits, key=lambda e: -e[0].lineno):
        before, after = lines[at.lineno - 1][:at.col_offset], lines[at.end_lineno - 1][at.end_col_offset:]
        lines[at.lineno - 1:at.end_lineno] = [before + text.encode() + after]
    return b"".join(lines).decode()


def rewrite_all(folder):
    """Rewrite every module in `folder` but those that are written by hand."""
    for path in sorted(Path(folder).rglob("*.py")):
        if path.name.startswith("_"): continue
        old = path.read_text(encoding="utf-8")
        if (new := rewrite(old)) != old: path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    rewrite_all(*sys.argv[1:] or [Path(__file__).resolve().parent.parent / "optim_nb"])
