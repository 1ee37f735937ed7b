"""What `help()` says: every argument explained, every error named; and the step of the export that writes it."""
import ast, dataclasses, importlib, inspect, re, runpy, textwrap
import pytest
import optim_nb
from conftest import ROOT

step = runpy.run_path(str(ROOT / "docs/docstrings.py"))
rewrite = step["rewrite"]
MODULES = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in (ROOT / "optim_nb").rglob("[!_]*.py"))

# Modules that still have a public name without these; a module that has none left must be taken out of its list.
TODO_PARAMETERS: set[str] = set()
TODO_ERRORS: set[str] = set()


def public(name):
    "The functions, classes and methods that the module `name` offers: (name, object, its documentation)."
    module = importlib.import_module(name)
    for n in module.__all__:
        thing = getattr(module, n)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)) or thing.__module__ != name: continue
        yield n, thing, inspect.getdoc(thing) or ""
        if not inspect.isclass(thing): continue
        for m, method in vars(thing).items():
            if m.startswith("_"): continue
            method = method.__func__ if isinstance(method, (staticmethod, classmethod)) else method
            if inspect.isfunction(method): yield f"{n}.{m}", method, inspect.getdoc(getattr(thing, m)) or ""


def undocumented_parameters(name):
    for n, thing, doc in public(name):
        if inspect.isclass(thing) and not (dataclasses.is_dataclass(thing) or "__init__" in vars(thing)): continue
        try: names = inspect.signature(thing).parameters
        except ValueError: continue  # a builtin's subclass
        for p in names:
            if p not in ("self", "cls") and not re.search(rf"\b{p}\b", doc): yield f"{n}: {p}"


def undocumented_errors(name):
    for n, thing, doc in public(name):
        made = ["__post_init__"] if dataclasses.is_dataclass(thing) else ["__init__"]  # a dataclass's __init__ has no source
        for f in [vars(thing)[m] for m in made if m in vars(thing)] if inspect.isclass(thing) else [thing]:
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(f)))):
                if not isinstance(node, ast.Raise) or node.exc is None: continue
                error = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
                if not re.search(rf"\b{error}\b", doc): yield f"{n}: {error}"


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("find, todo", [(undocumented_parameters, TODO_PARAMETERS), (undocumented_errors, TODO_ERRORS)],
                         ids=["parameters", "errors"])
def test_every_public_docstring_names(name, find, todo):
    assert todo <= set(MODULES)
    missing = list(find(name))
    if name in todo: assert missing, f"{name} is complete: take it out of the list at the top of this file"
    else: assert not missing, "\n".join(missing)


def test_help_explains_every_argument_of_adam():
    text = inspect.getdoc(optim_nb.Adam)
    assert re.search(r"^Parameters\n-{10}$", text, re.M)
    for name in ("params", "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"):
        assert re.search(rf"^{name}\b.*\n    \S", text, re.M), name


# ---- docs/docstrings.py

BEFORE = r'''
from dataclasses import dataclass

@dataclass
class Settings:
    "Two numbers."
    # ß above the field: columns are counted in bytes elsewhere
    first: int = 1
    second: float = 2.0  # the second one
    third: int = 3

class Walk:
    "A walk."
    def __init__(self,  # not about self
        start,          # where it begins; α and β
        /, *rest,       # and others
        by: "float | None"=None,    # stride,
        # on a line of its own
        to=(1, 2),
        **options,      # kept
    ): self.start = start  # not about options

    def go(self, n: int=1, m=2) -> list:  # the points
        """Walk on.

        Raises
        ------
        ValueError
            For a negative `n`.
        """
        if n < 0: raise ValueError(n)
        return [n]  # not a parameter

    def crc(self): return 1  # no docstring

def one(x, y=r"\d"): "In one line; \\d stays."; return x  # after the docstring

def two(
    x,  # an α
    y,
    z,  # a z
) -> int:
    "Öl."; return 1

def own(
    x,  # not used
):
    """Its author wrote the section.

    Parameters
    ----------
    x
        as the author says
    """
'''


def test_the_step_on_every_kind_of_signature():
    space = {}
    after = rewrite(BEFORE)
    exec(after, space)
    doc = lambda path: inspect.getdoc(eval(path, space))
    assert doc("Settings") == """Two numbers.

Parameters
----------
first : int, default 1
    ß above the field: columns are counted in bytes elsewhere
second : float, default 2.0
    the second one"""
    assert doc("Walk") == """A walk.

Parameters
----------
start
    where it begins; α and β
*rest
    and others
by : float | None, default None
    stride,
to
    on a line of its own
**options
    kept"""
    assert doc("Walk.go") == """Walk on.

Returns
-------
list
    the points

Raises
------
ValueError
    For a negative `n`."""
    assert doc("two") == "Öl.\n\nParameters\n----------\nx\n    an α\nz\n    a z" and space["two"](1, 2, 3) == 1
    assert doc("one") == r"In one line; \d stays." and space["one"](4) == 4
    assert "as the author says" in doc("own") and "not used" not in doc("own")
    assert space["Walk"].crc.__doc__ is None
    assert rewrite(after) == after, "a second run changes nothing"


def without_docstrings(source):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None: node.body[0].value.value = ""
    return ast.dump(tree)


def test_the_step_changes_docstrings_only():
    sources = [BEFORE, *((ROOT / (m.replace(".", "/") + ".py")).read_text(encoding="utf-8") for m in MODULES)]
    for source in sources:
        after = rewrite(source)
        assert without_docstrings(source) == without_docstrings(after)
        code = [line for line in source.splitlines() if line.strip() and line.strip()[0] not in "\"'"]
        rest = iter(after.splitlines())
        assert all(line in rest for line in code if '"""' not in line and "; return" not in line), "lines in their order"
