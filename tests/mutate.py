"""Break every function that a notebook exports, one at a time, and require its page to fail: `make mutate NB=nbs/00_tensor.ipynb`.

A function is broken in two ways: it raises an error, and it returns its first argument. A page that runs to its end all the same
does not test what it shows. This takes a run of the page for each (many fail early), so it is run by hand.
Names after the notebook choose functions: `python tests/mutate.py nbs/00_tensor.ipynb unbroadcast Tensor.item`.
"""
import ast
import os
import sys
from multiprocessing import get_context
from pathlib import Path

import nbdev.test
from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor
from notebooks import EXCUSED, ROOT, exported, relative, test_one

WAYS = "raises", "returns its first argument"


def broken(source, f, way):
    """The cell `source` with the body of the function `f` replaced; None where that would change nothing."""
    arguments = [a.arg for a in f.args.posonlyargs + f.args.args + f.args.kwonlyargs if a.arg not in ("self", "cls")]
    arguments += [a.arg for a in (f.args.vararg,) if a] + [a.arg for a in f.args.args if a.arg in ("self", "cls")]
    new = "raise AssertionError('broken on purpose')" if way == "raises" else f"return {(arguments or [None])[0]}"
    body = f.body[1:] if ast.get_docstring(f) is not None and len(f.body) > 1 else f.body
    if len(body) == 1 and (ast.unparse(body[0]) == new or way == "raises" and isinstance(body[0], ast.Raise)): return None
    lines = source.encode().splitlines(keepends=True)  # ast counts bytes
    start, end = body[0], body[-1]
    top = min([start.lineno, *(d.lineno for d in getattr(start, "decorator_list", []))])
    before, after = lines[top - 1][:start.col_offset], lines[end.end_lineno - 1][end.end_col_offset:]
    lines[top - 1:end.end_lineno] = [before + new.encode() + after]
    return b"".join(lines).decode()


class Broken(CaptureShell):
    """A shell that runs one cell with one of its functions broken."""
    cell_id = source = None

    def __init__(self, path, **options): super().__init__(path, timeout=300, **options)

    def cell(self, cell, **options):
        if cell.id == self.cell_id: cell.source = self.source
        return super().cell(cell, **options)


def survives(job):
    """Whether the page runs to its end although the function is broken; called in a process of its own."""
    path, cell_id, source, *_ = job
    Broken.cell_id, Broken.source, nbdev.test.CaptureShell = cell_id, source, Broken
    passed, _ = test_one(path, skip_flags=get_config().tst_flags.split(), showerr=False, basepath=ROOT)
    return job, passed


def jobs(path, names):
    excused = EXCUSED.get(relative(path), {})
    for cell in NBProcessor(path, procs=FrontmatterProc, process=True).nb.cells:
        if cell.cell_type != "code": continue
        for name, f in exported(cell).items():
            if names and name not in names or name in excused: continue
            for way in WAYS:
                if (source := broken(cell.source, f, way)) is not None: yield path, cell.id, source, name, way


def main(path, *names):
    work, survivors = list(jobs(Path(path).resolve(), names)), []
    with get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for i, ((*_, name, way), passed) in enumerate(pool.imap_unordered(survives, work), 1):
            if passed: survivors.append(f"{name} {way}")
            print(f"[{i}/{len(work)}] {name} {way}: the page {'STILL PASSES' if passed else 'fails, as it should'}", flush=True)
    if survivors: sys.exit(f"\n{path} passes although\n  " + "\n  ".join(survivors))
    print(f"{path} tests every function that it exports.")


if __name__ == "__main__":
    os.chdir(ROOT)
    main(*sys.argv[1:])
