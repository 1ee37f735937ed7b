"""Run the notebooks as tests, and see that each calls every function it exports: `python tests/notebooks.py [NOTEBOOK]`.

This is nbdev_test with an eye on what is called. A page tests the code that it shows only if it calls that code, as its own
cells define it and not as the installed package does. Python reports each call while the notebook runs, so this costs
no second run. What was called is written to build/called, one file for a notebook; a function that no cell called, and
that has no reason in EXCUSED, is an error.
"""
import ast
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import nbdev.test
from execnb.shell import CaptureShell

ROOT = Path(__file__).resolve().parent.parent
NBS, CALLED = ROOT / "nbs", ROOT / "build/called"

# Pages that do not call all they export yet; one that does must be taken out.
TODO: set[str] = set()
# Functions that a page cannot be seen to call, with the reason.
EXCUSED = {"01_kernels.ipynb": dict.fromkeys(
    ["_sign", "_instruction.<locals>.convert", "_instruction.<locals>.convert.<locals>.codegen"],
    "called only while something is compiled"), "optimizers/14_adafactor.ipynb": dict.fromkeys(
    ["_squares", "_plain_squares", "_moments", "_roots", "_scaled_squares", "_norms", "_descend"], "compiled: no Python function is entered"),
    "02_batch.ipynb": {
    **dict.fromkeys(["_has_form", "_read", "_apart", "_look", "_cut"], "compiled: no Python function is entered"),
    **dict.fromkeys(["_reader.<locals>.read", "_reader.<locals>.read.<locals>.codegen"], "called only while something is compiled"),
    **dict.fromkeys(["Batch._apply", "Batch._check_new", "Batch._check_new.<locals>.name"], "runs only without Numba"),
    "_after_fork": "runs in a forked process"}, "optimizers/13_lbfgs.ipynb": {
    "_two_loops": "compiled: no Python function is entered", **dict.fromkeys(["_dot", "_pair"], "runs only without Numba")}}


def exported(cell):
    """The functions in a cell that nbdev has read, where it is exported: {qualified name: its syntax tree}."""
    found = {}
    def visit(node, path):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef): visit(child, [*path, child.name])
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                part = next((d.attr for d in child.decorator_list if isinstance(d, ast.Attribute) and d.attr in ("setter", "deleter")), "")
                name = ".".join(filter(None, [*path, child.name, part]))
                while name in found: name += "'"  # defined again, as under an `if`
                found[name] = child
                visit(child, [*path, child.name, "<locals>"])
            else: visit(child, path)
    if getattr(cell, "directives_", {}).keys() & {"export", "exports", "exporti"}: visit(ast.parse(cell.source), [])
    return found


def first_line(f): return min([f.lineno, *(d.lineno for d in f.decorator_list)])


def relative(path): return Path(path).resolve().relative_to(NBS).as_posix()


class Watched(CaptureShell):
    """A shell that notes which functions defined in its cells are called."""
    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.path, self.current, self.cell_of, self.wanted, self.calls = Path(path), None, {}, {}, set()
        compiled = self.compile.cache
        def cache(*args, **kwargs):  # IPython names each piece of code that it compiles
            name = compiled(*args, **kwargs)
            self.cell_of[name] = self.current
            return name
        self.compile.cache = cache

    def cell(self, cell, **options):
        self.current = cell.id
        self.wanted |= {name: (cell.id, first_line(f)) for name, f in exported(cell).items()}
        if self.calls.issuperset(self.wanted.values()): return super().cell(cell, **options)  # nothing to look out for
        with watch(self.cell_of, self.calls): return super().cell(cell, **options)

    def run_all(self, nb, **options):
        super().run_all(nb, **options)
        file = CALLED / f"{relative(self.path)}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({name: at in self.calls for name, at in self.wanted.items()}, indent=1), encoding="utf-8")


class watch:
    """Note in `calls` every Python function that is entered, in any thread, and was compiled in a file of `cell_of`."""
    def __init__(self, cell_of, calls): self.cell_of, self.calls = cell_of, calls

    if hasattr(sys, "monitoring"):  # Python 3.12: each function once, then at full speed
        def __enter__(self):
            m = sys.monitoring
            m.use_tool_id(m.COVERAGE_ID, "notebooks")
            def start(code, offset):
                if code.co_filename in self.cell_of: self.calls.add((self.cell_of[code.co_filename], code.co_firstlineno))
                return m.DISABLE
            m.register_callback(m.COVERAGE_ID, m.events.PY_START, start)
            m.set_events(m.COVERAGE_ID, m.events.PY_START)

        def __exit__(self, *exception):
            sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.COVERAGE_ID)
    else:
        def __enter__(self):
            cell_of, calls = self.cell_of, self.calls
            def trace(frame, event, arg):  # returns None: no line of the function is traced
                code = frame.f_code
                if code.co_filename in cell_of: calls.add((cell_of[code.co_filename], code.co_firstlineno))
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
    wrong = [f"{f} has an excuse but is gone" for f in excused if f not in called]
    return [f for f, done in called.items() if not done and f not in excused], wrong


def main(path=None):
    shutil.rmtree(CALLED, ignore_errors=True)
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
    import notebooks  # its functions go to worker processes, where a notebook's shell takes the name __main__
    os.chdir(ROOT)
    notebooks.main(*sys.argv[1:])
