"""The API reference: every public name of every module, with its signature, parameters, errors, section and source."""
import ast
import importlib
import inspect
import os
import re
import textwrap
from dataclasses import dataclass, field
from functools import cache, cached_property

import pages
from showdoc import describe, numpydoc

os.environ.setdefault("MPLBACKEND", "agg")
optimizer = importlib.import_module(f"{pages.cfg.lib_name}.optimizer")
PACKAGE = pages.cfg.lib_name
PACKAGES = PACKAGE, f"{PACKAGE}.optimizers", f"{PACKAGE}.lr_scheduler"  # names are public under the first that has them


@dataclass
class Name:
    """One public name: where it is defined, and the name under which it is imported."""
    kind: str  # class, function, method, property or data
    full: str  # optim_nb.optimizers.adam.Adam
    public: str  # optim_nb.Adam
    obj: object
    page: str
    members: list = field(default_factory=list)
    overrides: list = field(default_factory=list)  # methods that the base class documents

    @property
    def short(self): return ".".join(self.full.split(".")[-2 if self.kind in ("method", "property") else -1:])

    @cached_property
    def parts(self):
        """(call, docstring, table of parameters, [(error, message)])"""
        if self.kind == "data": return "", "", "", []
        if self.kind == "property": return "", inspect.getdoc(self.obj) or "", "", _raised(self.obj.fget)
        call, text, table = describe(self.obj, self.public.rpartition(".")[2])
        text, documented = numpydoc(text)
        return call, text, table, documented or errors(self.obj)

    @property
    def line(self):
        """File and line of its definition, or None."""
        obj = self.obj.fget if self.kind == "property" else getattr(self.obj, "rule", self.obj) if self.kind == "function" else self.obj
        try: return inspect.getsourcefile(inspect.unwrap(obj)), inspect.getsourcelines(inspect.unwrap(obj))[1]
        except (TypeError, OSError): return None


@cache
def _tree(function):
    try: return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (TypeError, OSError, SyntaxError): return ast.Module([], [])


def _message(node):
    """The text of a message in the source, with … for what is filled in."""
    if isinstance(node, ast.Constant): return str(node.value)
    if isinstance(node, ast.JoinedStr): return "".join(_message(v) if isinstance(v, ast.Constant) else "…" for v in node.values)
    if isinstance(node, ast.BinOp): return _message(node.left) + _message(node.right)
    return "…"


def _raised(function):
    """The errors that a function's own lines raise: `[(type, message)]`."""
    raised = [n.exc for n in ast.walk(_tree(function)) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
    return [(c.func.id, re.sub("…+", "…", _message(c.args[0])) if c.args else "") for c in raised if isinstance(c.func, ast.Name)]


def errors(obj):
    """What a function, or the making of an object, can raise: its own lines, and those of our functions that they call."""
    own = [m for n in ("__init__", "check") if inspect.isfunction(m := vars(obj).get(n))] if inspect.isclass(obj) else [obj]
    found = {}
    if inspect.isclass(obj) and issubclass(obj, optimizer.Optimizer):  # their ranges are declared, and checked by the base class
        ranges = {name: h.range for name, h in optimizer.hyperparameters(obj).items() if h.range}
        found = dict.fromkeys(("ValueError", f"Invalid {name if r.count else r.label}: …") for name, r in ranges.items())
    for function in map(inspect.unwrap, own):
        found |= dict.fromkeys(_raised(function))
        called = {n.func.id for n in ast.walk(_tree(function)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        for name in sorted(called):
            helper = getattr(function, "__globals__", {}).get(name)
            if inspect.isfunction(helper) and (helper.__module__ or "").startswith(PACKAGE): found |= dict.fromkeys(_raised(helper))
    return [(kind, message) for kind, message in found if message.strip("… ")]


def _members(cls, full, public, page):
    """The methods and properties that a class (with its private bases) documents; names of those it only overrides."""
    members, overrides = [], []
    public_bases = [c for c in cls.__mro__[1:] if not c.__name__.startswith("_")]
    own = [c for c in cls.__mro__ if c is cls or c not in public_bases and not any(issubclass(b, c) for b in public_bases)]
    for name, value in {k: v for c in reversed(own) for k, v in vars(c).items()}.items():
        if name.startswith("_") or isinstance(value, type): continue
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        kind = "property" if isinstance(value, property) else "method" if inspect.isroutine(value) else None
        if not kind: continue
        if not getattr(value, "__doc__", None) and any(hasattr(b, name) for b in cls.__mro__ if b not in own): overrides.append(name)
        else: members.append(Name(kind, f"{full}.{name}", f"{public}.{name}", value, page))
    return members, overrides


def modules(sidebar):
    """`[(module, page, [Name])]` in the order of the sidebar."""
    found = []
    for e in (x for top in sidebar for x in top.walk()):
        if not (e.source or "").endswith(".ipynb"): continue
        name = pages.module(e.source)
        if not name: continue
        module = importlib.import_module(f"{PACKAGE}.{name}")
        found.append((module.__name__, e, [_name(module, n, e.page) for n in module.__all__ if not n.startswith("_")]))
    return found


def _name(module, name, page):
    obj, full = getattr(module, name), f"{module.__name__}.{name}"
    home = next((p for p in PACKAGES if name in (m := importlib.import_module(p)).__all__ and getattr(m, name) is obj), None)
    public = f"{home}.{name}" if home else full
    if inspect.isclass(obj): return Name("class", full, public, obj, page, *_members(obj, full, public, page))
    return Name("function" if callable(obj) else "data", full, public, obj, page)


def anchors(found):
    """`{full name: anchor on the API page}`."""
    return {n.full: n.public for _, _, names in found for top in names for n in (top, *top.members)}


def markdown(found, heading, sphinx=True):
    """The page. `heading(page, name)` is the anchor of a name on its page, or None. Sphinx gets its own directives."""
    out = ["# API reference", "> Every public name: its signature, parameters and errors, and where it is explained.",
           "Import what stands before the dot of a name: `from optim_nb import Adam`. What follows is read from the code when "
           "this page is built. A method stands at the class that defines it; an error has its message, with … for what is filled in."]
    for module, e, names in found:
        out += [f"## {module}", *([f"```{{py:module}} {module}\n```\n\n```{{py:currentmodule}} None\n```"] if sphinx else []), f"Explained in [{e.text}]({e.source})."]
        out += [_entry(n, heading, sphinx, 7) for n in names]
    return "\n\n".join(out) + "\n"


def _entry(n, heading, sphinx, ticks):
    call, text, table, raised = n.parts
    anchor = heading(n.page, n.short)
    links = [f"[section]({n.page}.html{'#' + anchor if anchor else ''})"]
    if n.line:
        path, line = n.line
        links.append(f"[source]({pages.GIT}{os.path.relpath(path, pages.ROOT)}#L{line})")
    body = [f'<p class="api-links">{"".join(_anchor(x) for x in links)}</p>', text]
    if n.kind == "data" and len(value := repr(n.obj)) < 80: body.append(f"`{value}`")
    body.append(table)
    if raised:
        body.append("**Raises**")
        body.append("\n".join(f"- `{kind}`: {_plain(message)}" for kind, message in raised))
    if n.overrides: body.append("Overrides " + ", ".join(f"`{o}`" for o in n.overrides) + ".")
    if bases := [b for b in getattr(n.obj, "__bases__", ()) if (b.__module__ or "").startswith(PACKAGE) and b.__name__[0] != "_"]:
        body.append("Further methods and errors are those of " + ", ".join(f"`{b.__name__}`" for b in bases) + ".")
    body += [_entry(m, heading, sphinx, ticks - 1) for m in n.members]
    body = "\n\n".join(filter(None, body))
    signature = call[call.index("("):] if "(" in call else ""
    if not sphinx:
        level = "####" if n.kind in ("method", "property") else "###"
        return f"{level} {n.public} {{#{n.public}}}\n\n" + (f"```python\n{call}\n```\n\n" if call else "") + body
    flat = " ".join(signature.split())
    options = f":canonical: {n.full}\n" if n.full != n.public else ""
    fence = "`" * ticks
    return f"{fence}{{py:{n.kind}}} {n.public}{flat}\n{options}\n{body}\n{fence}"


def _anchor(link): return re.sub(r"\[(\w+)\]\((.*)\)", r'<a href="\2">\1</a>', link)


def _plain(text):
    """Text as it is, whatever Markdown would read in it."""
    return re.sub(r"([\\`*_{}\[\]<>#$|~])", r"\\\1", text)
