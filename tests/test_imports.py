"""Every module in an interpreter of its own, and what comes along with `import optim_nb`."""
import ast, importlib, pkgutil
import pytest
import optim_nb
from conftest import CASES, ROOT, python

MODULES = ["optim_nb", *(m.name for m in pkgutil.walk_packages(optim_nb.__path__, "optim_nb.") if not m.name.endswith("_modidx"))]

CALLS = {  # what to do with the module m; each prints True
    "optim_nb": CASES[0].first_step("m"),
    "optim_nb.tensor": "t = m.Parameter(np.ones(3)); (t * t).sum().backward(); print((t.grad == 2).all())",
    "optim_nb.kernels": "rule = m.fused(lambda g, p: (p - g,)); print(rule(1.0, 3.0) == (2.0,))",
    "optim_nb.batch": "b, p = m.Batch(), np.ones(3); b.look([m.Part(m.whole(lambda g, p: (p - g,)), 1)], [np.ones(3), p]); b.check(); "
                      "b.set(0, {}); b.run(); print((p == 0).all())",
    "optim_nb.optimizer": "print(issubclass(m.Optimizer, object) and callable(m.register_optimizer_step_pre_hook(print).remove))",
    "optim_nb.problems": "problems = [v for v in vars(m).values() if isinstance(v, m.Problem)]; "
                         "print(all(np.isfinite(p(np.asarray(p.start, float))) for p in problems))",
    "optim_nb.plot": "m.use_style(); print(callable(m.trace))",
    "optim_nb.optimizers": "import optim_nb; print(m.SGD is optim_nb.SGD)",
    "optim_nb.lr_scheduler": "import optim_nb; print(m is optim_nb.lr_scheduler and issubclass(m.StepLR, m.LRScheduler))",
    **{c.module: f"from optim_nb.tensor import Parameter; m.Parameter = Parameter; {c.first_step('m')}" for c in CASES},
    "optim_nb.lr_scheduler.base": "print(callable(m.LRScheduler.get_last_lr))",
    "optim_nb.lr_scheduler.step": "import optim_nb; o = optim_nb.SGD([optim_nb.Parameter(np.ones(1))], lr=1.0); o.step(); "
                                  "s = m.StepLR(o, 1); s.step(); print(s.get_last_lr() == [0.1])",
}


@pytest.mark.parametrize("name", MODULES)
def test_in_a_fresh_interpreter(name):
    assert name in CALLS, f"say in CALLS what to do with the new module {name}"
    assert python(f"import importlib, numpy as np; m = importlib.import_module({name!r}); {CALLS[name]}", MPLBACKEND="agg") == "True\n"


def test_importing_brings_only_numpy_and_numba():
    code = "import sys, optim_nb; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(python(code).split())
    assert "numpy" in loaded
    assert not loaded & {"matplotlib", "sklearn", "nbdev", "fastcore", "torch", "tqdm", "IPython", "pandas", "sympy", "PIL"}


PUBLIC = {*(c.cls.__name__ for c in CASES), "Optimizer", "SparseGrad", "Tensor", "Parameter", "no_grad", "enable_grad", "lr_scheduler",
          "register_optimizer_step_pre_hook", "register_optimizer_step_post_hook"}


def test_public_names():
    star = {}
    exec("from optim_nb import *", star)
    assert set(star) - {"__builtins__"} == PUBLIC == set(optim_nb.__all__)
    star = {}
    exec("from optim_nb.lr_scheduler import *", star)
    assert set(star) - {"__builtins__"} == {"LRScheduler", "StepLR"}


@pytest.mark.parametrize("name", [m for m in MODULES if m not in ("optim_nb", "optim_nb.optimizers", "optim_nb.lr_scheduler")])
def test_every_name_in_all_exists_and_is_documented(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        thing = getattr(module, public)
        if callable(thing) and getattr(thing, "__module__", name) == name: assert thing.__doc__, f"{name}.{public} has no docstring"


def test_modules_import_only_from_lower_numbers():
    "The order of the notebooks: foundations, then optimizers and schedulers in the order of their numbers."
    order = [p.relative_to(ROOT / "nbs") for p in sorted((ROOT / "nbs").rglob("[0-9][0-9]_*.ipynb"), key=lambda p: (len(p.parts), p))]
    rank = {".".join([*p.parts[:-1], p.stem[3:]]): i for i, p in enumerate(order)}
    for name, i in rank.items():
        path = ROOT / "optim_nb" / (name.replace(".", "/") + ".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level: continue
            package = name.split(".")[:-node.level] if node.level <= len(name.split(".")) else []
            wanted = [".".join([*package, node.module])] if node.module else [".".join([*package, a.name]) for a in node.names]
            for other in wanted: assert rank[other] < i, f"{name} imports {other}, which comes later"
