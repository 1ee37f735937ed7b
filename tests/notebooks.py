"""Run the notebooks as tests, and see that each calls every function it exports: `python tests/notebooks.py [NOTEBOOK]`.

This is nbdev_test with an eye on what is called. A page tests the code that it shows only if it calls that code, as its own
cells define it and not as the installed package does. Python reports each call while the notebook runs, so this costs
no second run. What was called is written to build/called, one file for a notebook; a function that no cell called, and
that has no reason in EXCUSED, is an error.
"""
import ast
import functools
import json
import os
import re
import sys
import threading
from pathlib import Path

import nbdev.test
from execnb.nbio import read_nb
from execnb.shell import CaptureShell

ROOT = Path(__file__).resolve().parent.parent
NBS, CALLED = ROOT / "nbs", ROOT / "build/called"
EXPORTED = re.compile(r"^\s*#\|\s*export[si]?\b", re.M)

# Pages that do not call all they export yet; one that does must be taken out.
TODO = set()
# Functions that a page cannot call itself, with the reason: {"01_kernels.ipynb": {"_sign": "runs compiled only"}}
EXCUSED = {}


def exported(nb):
    """Name to line of every function in the exported cells of a notebook: {(cell id, first line): qualified name}."""
    found = {}
    def visit(node, cell, path):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = ".".join([*path, child.name])
                inner = [*path, child.name]
                if not isinstance(child, ast.ClassDef):
                    first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                    found[cell.id, first] = name
                    inner.append("<locals>")
                visit(child, cell, inner)
            else: visit(child, cell, path)
    for cell in nb.cells:
        if cell.cell_type == "code" and EXPORTED.search(cell.source): visit(ast.parse(cell.source), cell, [])
    return found


def relative(path): return Path(path).resolve().relative_to(NBS).as_posix()


class Watched(CaptureShell):
    """A shell that notes which functions defined in its cells are called."""
    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.path, self.current, self.cell_of, self.calls = Path(path), None, {}, set()
        compiled = self.compile.cache
        def cache(*args, **kwargs):  # IPython names each piece of code that it compiles
            name = compiled(*args, **kwargs)
            self.cell_of[name] = self.current
            return name
        self.compile.cache = cache

    def cell(self, cell, **options):
        self.current = cell.id
        return super().cell(cell, **options)

    def entered(self, code):
        if code.co_filename in self.cell_of: self.calls.add((self.cell_of[code.co_filename], code.co_firstlineno))

    def run_all(self, nb, **options):
        with watch(self.entered): super().run_all(nb, **options)
        file = CALLED / f"{relative(self.path)}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        wanted = exported(nb)
        called = {name: at in self.calls for at, name in wanted.items()}
        file.write_text(json.dumps(called, indent=1), encoding="utf-8")


class watch:
    """Call `entered(code)` for every Python function that is entered, in any thread."""
    def __init__(self, entered): self.entered = entered

    if hasattr(sys, "monitoring"):  # Python 3.12: each function once, then at full speed
        def __enter__(self):
            m = sys.monitoring
            m.use_tool_id(m.COVERAGE_ID, "notebooks")
            def start(code, offset):
                self.entered(code)
                return m.DISABLE
            m.register_callback(m.COVERAGE_ID, m.events.PY_START, start)
            m.set_events(m.COVERAGE_ID, m.events.PY_START)

        def __exit__(self, *exception):
            sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.COVERAGE_ID)
    else:
        def __enter__(self):
            def trace(frame, event, arg): self.entered(frame.f_code)  # None: no line of it is traced
            threading.settrace(trace)
            sys.settrace(trace)

        def __exit__(self, *exception):
            sys.settrace(None)
            threading.settrace(None)


def test_nb(fn, **options):
    """nbdev's own test of one notebook, in a watched shell; called in a worker process."""
    nbdev.test.CaptureShell = Watched
    return test_one(fn, **options)


test_one = nbdev.test.test_nb


def never_called(name):
    """The functions of a notebook that its page did not call in the last run, less those that have an excuse."""
    called = json.loads((CALLED / f"{name}.json").read_text(encoding="utf-8"))
    excused = EXCUSED.get(name, {})
    wrong = [f"{f} has an excuse but is called, or is gone" for f in excused if called.get(f, True)]
    return [f for f, done in called.items() if not done and f not in excused], wrong


def main(path=None):
    nbdev.test.test_nb = test_nb
    nbdev.test.nbdev_test(path=path, n_workers=2, do_print=True)
    failed = False
    for file in sorted(CALLED.rglob("*.json")):
        name = file.relative_to(CALLED).as_posix().removesuffix(".json")
        missing, wrong = never_called(name)
        if name in TODO:
            if missing: missing = []
            else: wrong.append("calls all it exports now: take it out of TODO in tests/notebooks.py")
        if missing: wrong.append(f"never calls, as the page defines them: {', '.join(missing)}")
        for line in wrong: print(f"nbs/{name}: {line}", file=sys.stderr)
        failed |= bool(wrong)
    if failed: sys.exit(1)
    print("Every exported function is called on its page, but for the pages still to do: " + (", ".join(sorted(TODO)) or "none"))


if __name__ == "__main__":
    os.chdir(ROOT)
    main(*sys.argv[1:])
