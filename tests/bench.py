"""How fast a step is, as ratios measured side by side: `make bench`, or `python tests/bench.py [--quick] [--same] [--all]`.

Every step gets *fresh* gradient arrays, as `backward()` leaves them in training; only the step is timed. `--same` measures
steps that meet the same gradient arrays again and again, beside them.

In every round each contender runs once, for some milliseconds, in turn, after a pause in which its predecessor's
threads go to sleep and one step that is not timed; a ratio is the median over the rounds of (its time) / (optim_nb's
time) in the same round, so that what slows the whole machine cancels out. Above 1, optim_nb is faster. The interval is
that between the quartiles. Times in µs are the fastest of the rounds. A missed target is a statement about this machine
and the rest of its load, not an error.
"""
import argparse
import inspect
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import truediv
from statistics import median, quantiles

import numpy as np

import optim_nb

try:
    import numba
except ImportError:
    numba = None
try:
    import torch
except ImportError:
    torch = None

JIT = numba is not None and not numba.config.DISABLE_JIT
PAUSE = 0.01  # seconds; OpenMP threads spin for some milliseconds after their work
BYTES = 28  # an Adam step in float32 reads g, p, m, v and writes p, m, v

# Tensors, elements in each, and how many times faster than torch's best Adam is to be.
WORKLOADS = {"1 × 10³": (1, 10**3, 3), "1 × 10⁵": (1, 10**5, None), "1 × 10⁶": (1, 10**6, 1.3),
             "1 × 10⁷": (1, 10**7, 1.1), "1000 × 10": (1000, 10, 10), "1000 × 1000": (1000, 1000, 8)}
OPTIMIZERS = {"Adam": ("Adam", {}), "AdamW": ("AdamW", {}), "SGD": ("SGD", {}),
              "SGD momentum": ("SGD", dict(momentum=0.9))}
FAMILY = {"SGD": ("SGD", {}), "SGD momentum": ("SGD", dict(momentum=0.9)), "Adagrad": ("Adagrad", {}), "RMSprop": ("RMSprop", {}),
          "RMSprop centred": ("RMSprop", dict(momentum=0.9, centered=True)), "Adadelta": ("Adadelta", {}), "Adam": ("Adam", {}),
          "AdamW": ("AdamW", {}), "Adamax": ("Adamax", {}), "NAdam": ("NAdam", {}), "RAdam": ("RAdam", {}), "ASGD": ("ASGD", {}),
          "Rprop": ("Rprop", {})}
TORCH = {"torch fused": dict(fused=True), "torch foreach": dict(foreach=True),
         "torch plain": dict(foreach=False, fused=False)}


def make_arrays(tensors: int, elements: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(elements, dtype="float32") for _ in range(tensors)]


@dataclass
class Contender:
    """A step, and what comes before it, untimed: giving the parameters their gradients."""
    step: Callable[[], None]
    refresh: Callable[[], None] | None = None

    def timed(self, repeats: int) -> float:
        """Seconds per step."""
        total, clock = 0.0, time.perf_counter
        if self.refresh is None:
            begin = clock()
            for _ in range(repeats):
                self.step()
            return (clock() - begin) / repeats
        for _ in range(repeats):
            self.refresh()
            begin = clock()
            self.step()
            total += clock() - begin
        return total / repeats


def numpy_rule(optimizer: optim_nb.Optimizer) -> Callable[[], None]:
    """One step of the optimizer's undecorated rule, on arrays of its own."""
    group, = optimizer.param_groups
    rule, buffers = optimizer.rule_for(group)
    rows = [[p.data.copy(), *(np.zeros_like(p.data) for _ in buffers)] for p in group["params"]]
    steps = itertools.count(1)

    def step() -> None:
        named = optimizer.coefficients(group, next(steps))
        values = [np.float32(named[name]) for name in rule.coefficients]
        for p, arrays in zip(group["params"], rows):
            for array, new in zip(arrays, rule(p.grad, *arrays, *values)):
                array[...] = new
    return step


def contenders(kind: str, options: dict, tensors: int, elements: int, fresh: bool = True, rule: bool = True) -> dict[str, Contender]:
    grads = [make_arrays(tensors, elements, seed) for seed in (0, 2)[:1 + fresh]]

    def prepare(optimizers, parameter, tensor, **flags):
        params = [parameter(array) for array in make_arrays(tensors, elements, 1)]
        turn = itertools.cycle([[tensor(grad) for grad in each] for each in grads])

        def refresh() -> None:
            for p, grad in zip(params, next(turn)):
                p.grad = grad
        refresh()
        return getattr(optimizers, kind)(params, lr=1e-3, **options, **flags), refresh if fresh else None

    ours, refresh = prepare(optim_nb, optim_nb.Parameter, np.asarray)
    found = {"optim_nb": Contender(ours.step, refresh)}
    if rule:
        found["NumPy rule"] = Contender(numpy_rule(ours), refresh)
    if torch:
        known = inspect.signature(getattr(torch.optim, kind)).parameters
        for name, flags in TORCH.items():
            if name == "torch plain":
                flags = {k: v for k, v in flags.items() if k in known}
            elif not flags.keys() <= known.keys():
                continue  # many have no fused path
            theirs, refresh = prepare(torch.optim, torch.from_numpy, torch.from_numpy, **flags)
            found[name] = Contender(theirs.step, refresh)
    return found


def measure(steps: dict[str, Contender], seconds: float, pause: float = PAUSE) -> dict[str, list[float]]:
    """Seconds per step of each contender in each round; the order turns from round to round."""

    repeats = {}
    for name, step in steps.items():
        step.timed(2)  # compiles, allocates state, wakes threads
        if step.timed(3) < 1e-3:
            step.timed(600)  # until the look at the arrays is compiled too
        repeats[name] = max(1, math.ceil(4e-3 / step.timed(3)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    names, end = list(steps), time.perf_counter() + seconds
    while (done := len(times[names[-1]])) < 3 or (time.perf_counter() < end and done < 50):
        for name in names[done % len(names):] + names[:done % len(names)]:
            time.sleep(pause)
            steps[name].timed(1)
            times[name].append(steps[name].timed(repeats[name]))
    return times


def ratio(slower: list[float], faster: list[float]) -> str:
    low, middle, high = quantiles([a / b for a, b in zip(slower, faster)], n=4, method="inclusive")
    return f"{middle:.3g} [{low:.3g}–{high:.3g}]"


def verdict(value: float, target: float | None, *, below: bool = False) -> str:
    if target is None:
        return ""
    reached = value < target if below else value >= target
    return f"{'<' if below else '≥'} {target:g} {'ok' if reached else 'MISSED'}"


def progress(what: str) -> None:
    print(f"measuring {what} …", file=sys.stderr, flush=True)


def print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]))
    print(flush=True)


def best(times: dict[str, list[float]], names: Iterable[str]) -> list[float]:
    """The fastest of the contenders called `names` in each round."""
    return [min(each) for each in zip(*(times[name] for name in names))]


def race(title: str, seconds: float, fresh: bool) -> None:
    kind, options = OPTIMIZERS[title]
    how = "fresh gradients" if fresh else "the same gradients"
    others = ["NumPy rule", *(TORCH if torch else [])]
    rows = [[f"{title}, float32, {how}", "optim_nb µs", *others, *(["torch's best", "target"] if torch else [])]]
    for name, (tensors, elements, target) in WORKLOADS.items():
        progress(f"{title}, {name}, {how}")
        times = measure(contenders(kind, options, tensors, elements, fresh), seconds)
        ours = times["optim_nb"]
        row = [name, f"{min(ours) * 1e6:.4g}", *[ratio(times[other], ours) for other in others]]
        if torch:
            rival = best(times, TORCH)
            row += [ratio(rival, ours),
                    verdict(median(map(truediv, rival, ours)), target if title == "Adam" else None)]
        rows.append(row)
    print_table(rows)


# Hidden matrices of two networks: one block of GPT-2 small at a third of its width, and ResNet-18's first two stages, each
# convolution as output channels × the rest.
MATRICES = {"transformer block": [(768, 256), (256, 256), (1024, 256), (256, 1024)],
            "ResNet": [(64, 576)] * 4 + [(128, 576), (128, 64), *[(128, 1152)] * 3],
            "64 small ones": [(32, 64)] * 64}


def widened_muon() -> type:
    """torch's Muon without its cast to bfloat16, which many a CPU has no instructions for."""
    class Widened(torch.optim.Muon):
        def step(self, closure=None):
            cast, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, torch.Tensor.clone
            try:
                return super().step(closure)
            finally:
                torch.Tensor.bfloat16 = cast
    return Widened


def muon(seconds: float) -> None:
    """Muon on lists of matrices, beside torch's in float32, and beside a single step of torch's as it is, in bfloat16."""
    rows = [["Muon, float32, fresh gradients", "optim_nb µs", *(["torch, float32", "torch, one step"] if torch else [])]]
    for name, shapes in MATRICES.items():
        progress(f"Muon, {name}")

        def contender(cls: type, parameter: Callable, tensor: Callable, shapes=shapes) -> Contender:
            rng = np.random.default_rng(0)
            params, *grads = ([rng.standard_normal(shape, dtype="float32") for shape in shapes] for _ in range(3))
            params = [parameter(array) for array in params]
            turn = itertools.cycle([[tensor(grad) for grad in each] for each in grads])

            def refresh() -> None:
                for p, grad in zip(params, next(turn)):
                    p.grad = grad
            return Contender(cls(params).step, refresh)
        steps = {"optim_nb": contender(optim_nb.Muon, optim_nb.Parameter, np.asarray)}
        if torch:
            steps["torch, float32"] = contender(widened_muon(), torch.from_numpy, torch.from_numpy)
        for step in steps.values():
            step.refresh()
        times = measure(steps, seconds)
        ours = times["optim_nb"]
        rows.append([name, f"{min(ours) * 1e6:.4g}"])
        if torch:
            once = contender(torch.optim.Muon, torch.from_numpy, torch.from_numpy).timed(1)
            rows[-1] += [ratio(times["torch, float32"], ours), f"{once / median(ours):.2g}"]
    print_table(rows)


def family(seconds: float) -> None:
    """Every elementwise optimizer against torch's best, and its share of the streaming limit at 10⁷ by its own bytes."""
    n = 10**7
    limits = streams([array for seed in (0, 1) for array in make_arrays(2, n, seed)])
    head = ["float32, fresh gradients", *(["1000 × 1000", "target", "1 × 10⁶", "target"] if torch else []), "share of the limit, 10⁷", "target"]
    rows = [head]
    for title, (kind, options) in FAMILY.items():
        progress(title)
        row = [title]
        if torch:
            fused = "fused" in inspect.signature(getattr(torch.optim, kind)).parameters
            for tensors, elements, target in ((1000, 1000, 5), (1, 10**6, 1.1 if fused else 2)):
                times = measure(contenders(kind, options, tensors, elements, rule=False), seconds)
                rival, ours = best(times, times.keys() - {"optim_nb"}), times["optim_nb"]
                row += [ratio(rival, ours), verdict(median(map(truediv, rival, ours)), target)]
        p = optim_nb.Parameter(make_arrays(1, n, 1)[0])
        p.grad, = make_arrays(1, n, 0)
        optimizer = getattr(optim_nb, kind)([p], lr=1e-3, **options)
        optimizer.step()
        arrays = sum(isinstance(value, np.ndarray) for value in optimizer.state[p].values())
        times = measure({"optim_nb": Contender(optimizer.step), **{name: Contender(step) for name, step in limits.items()}}, seconds)
        limit = [t / BYTES * (12 + 8 * arrays) for t in best(times, limits)]
        row += [ratio(limit, times["optim_nb"]), verdict(median(map(truediv, limit, times["optim_nb"])), 0.85)]
        rows.append(row)
    print_table(rows)


def streams(arrays: list[np.ndarray]) -> dict[str, Callable[[], None]]:
    """Read four arrays and write three of them with next to no arithmetic: the traffic of a step of Adam."""
    def kernel(g, p, m, v, tiny):
        for row in numba.prange(g.shape[0]):
            gr, pr, mr, vr = g[row], p[row], m[row], v[row]
            for i in range(gr.size):
                x = tiny * gr[i]
                pr[i] += x
                mr[i] += x
                vr[i] += x

    rows = [array[:array.size >> 14 << 14].reshape(-1, 1 << 14) for array in arrays]
    one, every = (numba.njit(kernel, parallel=parallel, error_model="numpy") for parallel in (False, True))
    tiny = np.float32(1e-30)
    return {"one thread": lambda: one(*rows, tiny), "all threads": lambda: every(*rows, tiny)}


def bandwidth(seconds: float) -> None:
    """Adam's bytes per second beside those of streaming the same arrays."""
    n = 10**7
    progress("the streaming limit")
    p = optim_nb.Parameter(make_arrays(1, n, 1)[0])
    p.grad, = make_arrays(1, n, 0)
    optimizer = optim_nb.Adam([p])
    optimizer.step()
    limits = streams([p.grad, p.data, optimizer.state[p]["exp_avg"], optimizer.state[p]["exp_avg_sq"]])
    times = measure({"optim_nb": Contender(optimizer.step), **{name: Contender(step) for name, step in limits.items()}}, seconds)
    limit = best(times, limits)
    share = median(map(truediv, limit, times["optim_nb"]))
    print_table([["Adam, float32, 1 × 10⁷", "GB/s (fastest)", "share of the limit", "target"],
                 *[[name, f"{BYTES * n / min(each) / 1e9:.3g}", ratio(limit, each),
                    verdict(share, 0.9) if name == "optim_nb" else ""] for name, each in times.items()]])


def overhead(seconds: float) -> None:
    """The whole `step()` of one parameter of ten elements, where the arithmetic takes no time."""
    for fresh, target in ((True, 9), (False, 6)):
        how = "fresh gradients" if fresh else "the same gradients"
        progress(f"the overhead of a step, {how}")
        rows = [[f"one parameter of 10 elements, {how}", "µs (median)", "µs (fastest)", "× optim_nb", "target"]]
        times = measure(contenders("Adam", {}, 1, 10, fresh), seconds, pause=0)  # no threads to wait for
        for name, each in times.items():
            rows.append([name, f"{median(each) * 1e6:.3g}", f"{min(each) * 1e6:.3g}", ratio(each, times["optim_nb"]),
                         verdict(min(each) * 1e6, target, below=True) if name == "optim_nb" else ""])
        print_table(rows)


def lbfgs_cost(library, parameter: Callable, tensor: Callable, elements: int, dtype: str, iterations: int = 20) -> Callable[[], float]:
    """Seconds per iteration of one `step` of LBFGS on a bowl from a fresh start, without those of its closure."""
    h = tensor(np.geomspace(1, 100, elements).astype(dtype))
    p = parameter(np.ones(elements, dtype))
    optimizer = library.LBFGS([p], max_iter=iterations, max_eval=3 * iterations, history_size=10, tolerance_grad=0,
                              tolerance_change=0, line_search_fn="strong_wolfe")
    array = p.data

    def timed() -> float:
        closure_time = 0.0

        def closure() -> float:
            nonlocal closure_time
            begin = time.perf_counter()
            p.grad = h * array
            loss = float(p.grad @ array) / 2
            closure_time += time.perf_counter() - begin
            return loss
        array[...] = 1
        optimizer.state.clear()
        begin = time.perf_counter()
        optimizer.step(closure)
        total = time.perf_counter() - begin
        (state,) = optimizer.state.values()
        return (total - closure_time) / state["n_iter"]
    return timed


def lbfgs(seconds: float) -> None:
    """LBFGS's own cost per iteration beside torch's, with strong Wolfe and ten pairs."""
    if not torch:
        return
    rows = [["LBFGS's own cost, 10 pairs", "optim_nb µs an iteration", "torch / optim_nb", "target"]]
    for elements, target in ((10, 3), (10**6, 1)):
        for dtype in ("float32", "float64"):
            progress(f"LBFGS, {elements} elements, {dtype}")
            ours = lbfgs_cost(optim_nb, optim_nb.Parameter, np.asarray, elements, dtype)
            theirs = lbfgs_cost(torch.optim, torch.from_numpy, torch.from_numpy, elements, dtype)
            ours(), theirs()
            pairs, end = [], time.perf_counter() + seconds
            while len(pairs) < 3 or (time.perf_counter() < end and len(pairs) < 50):
                pairs.append((ours(), theirs()))
            mine, other = map(list, zip(*pairs))
            rows.append([f"{elements} elements, {dtype}", f"{min(mine) * 1e6:.4g}", ratio(other, mine),
                         verdict(median(map(truediv, other, mine)), target)])
    print_table(rows)


def transformer(width: int = 256, layers: int = 4, words: int = 8000) -> list[tuple[int, ...]]:
    """The shapes of a small transformer's parameters."""
    layer = [(3 * width, width), (3 * width,), (width, width), (width,), (4 * width, width), (4 * width,), (width, 4 * width)]
    return [(words, width), *(layer + 5 * [(width,)]) * layers]


def resnet() -> list[tuple[int, ...]]:
    """The shapes of ResNet-18's parameters."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    for before, width in itertools.pairwise((64, 64, 128, 256, 512)):
        shapes += [(width, before, 3, 3), *[(width, width, 3, 3)] * 3, *[(width,)] * 8]
        shapes += [(width, before, 1, 1), (width,), (width,)] if before < width else []
    return [*shapes, (1000, 512), (1000,)]


def adafactor(seconds: float) -> None:
    """Adafactor over the parameters of two networks, and over some of their matrices alone, with fresh gradients."""
    lists = {"small transformer": transformer(), "ResNet-18": resnet(), "64 × 64": [(64, 64)], "512 × 512": [(512, 512)],
             "8000 × 256": [(8000, 256)], "512 × 512 × 3 × 3": [(512, 512, 3, 3)], "256 × 128 × 1 × 1": [(256, 128, 1, 1)]}
    rows = [["Adafactor, float32, fresh gradients", "optim_nb µs", *(["torch foreach", "torch plain", "torch's best", "target"] if torch else [])]]
    for title, shapes in lists.items():
        progress(f"Adafactor, {title}")
        rng = np.random.default_rng(0)
        values, *grads = [[rng.standard_normal(shape, dtype="float32") for shape in shapes] for _ in range(3)]

        def prepare(optimizers, parameter, tensor, values=values, grads=grads, **flags):
            params = [parameter(array.copy()) for array in values]
            turn = itertools.cycle([[tensor(grad) for grad in each] for each in grads])

            def refresh() -> None:
                for p, grad in zip(params, next(turn)):
                    p.grad = grad
            refresh()
            return Contender(optimizers.Adafactor(params, **flags).step, refresh)

        steps = {"optim_nb": prepare(optim_nb, optim_nb.Parameter, np.asarray)}
        if torch:
            steps |= {"torch foreach": prepare(torch.optim, torch.from_numpy, torch.from_numpy, foreach=True),
                      "torch plain": prepare(torch.optim, torch.from_numpy, torch.from_numpy, foreach=False)}
        times = measure(steps, seconds)
        ours, others = times["optim_nb"], [name for name in steps if name != "optim_nb"]
        row = [title, f"{min(ours) * 1e6:.4g}", *[ratio(times[other], ours) for other in others]]
        if torch:
            rival = best(times, others)
            row += [ratio(rival, ours), verdict(median(map(truediv, rival, ours)), 1)]
        rows.append(row)
    print_table(rows)


def first_step(rounds: int) -> None:
    """The first step of a thousand parameters, which makes their state; the kernels are compiled already."""
    progress("the first step")
    times = []
    for _ in range(rounds):
        params = [optim_nb.Parameter(array) for array in make_arrays(1000, 10, 1)]
        for p, grad in zip(params, make_arrays(1000, 10, 0)):
            p.grad = grad
        times.append(Contender(optim_nb.Adam(params).step).timed(1))
    print_table([["first step of 1000 parameters", "µs a parameter (fastest)", "target"],
                 ["optim_nb", f"{min(times) * 1e3:.3g}", verdict(min(times) * 1e3, 6, below=True)]])


def half_precision(seconds: float) -> None:
    """float16 beside float32: its step moves 22 bytes an element instead of 28."""
    rows = [["Adam, float16 parameters", "µs", "float32's time / float16's"]]
    for name, (tensors, elements) in {"1 × 10⁵": (1, 10**5), "1000 × 1000": (1000, 1000)}.items():
        progress(f"float16, {name}")
        steps = {}
        for dtype in ("float32", "float16"):
            params = [optim_nb.Parameter(a.astype(dtype)) for a in make_arrays(tensors, elements, 1)]
            for p, grad in zip(params, make_arrays(tensors, elements, 0)):
                p.grad = grad.astype(dtype)
            steps[dtype] = Contender(optim_nb.Adam(params).step)
        times = measure(steps, seconds)
        rows.append([name, f"{min(times['float16']) * 1e6:.4g}", ratio(times["float32"], times["float16"])])
    print_table(rows)


COLD = {"optim_nb import + step": """
import numpy as np, optim_nb
p = optim_nb.Parameter(np.zeros(10, 'float32')); p.grad = np.ones(10, 'float32'); optim_nb.Adam([p]).step()""",
        "NumPy import": "import numpy"}
if torch:
    COLD |= {"torch import": "import torch", "torch import + step": """
import torch
p = torch.zeros(10); p.grad = torch.ones(10); torch.optim.Adam([p]).step()"""}


def cold_start(rounds: int) -> None:
    """A fresh process for each: the time from its first line to its last. The first round fills the caches."""
    def timed(code: str) -> float:
        program = f"import time; begin = time.perf_counter()\n{code}\nprint(time.perf_counter() - begin)"
        return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)

    progress("cold starts")
    times: dict[str, list[float]] = {name: [] for name in COLD}
    for _ in range(rounds + 1):
        for name, code in COLD.items():
            times[name].append(timed(code))
    times = {name: each[1:] for name, each in times.items()}
    ours, target = times["optim_nb import + step"], times.get("torch import")
    print_table([["cold start, caches warm", "s (median)", "× optim_nb", "target"],
                 *[[name, f"{median(each):.2f}", ratio(each, ours),
                    verdict(median(ours), round(median(target), 2), below=True) if each is ours and target else ""]
                   for name, each in times.items()]])


def cold_compile() -> None:
    """The first step of a process that finds no compiled kernel on disk."""
    progress("compiling without a cache")
    program = ("import time, numpy as np, optim_nb; p = optim_nb.Parameter(np.zeros(10, 'float32')); "
               "p.grad = np.ones(10, 'float32'); o = optim_nb.Adam([p]); begin = time.perf_counter(); o.step(); "
               "print(time.perf_counter() - begin)")
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True,
                             env=os.environ | {"NUMBA_CACHE_DIR": folder}).stdout
    print_table([["first step without a cache", "s", "target"],
                 ["optim_nb", f"{float(out):.2f}", verdict(float(out), 1, below=True)]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--same", action="store_true", help="steps that meet the same gradient arrays again, too")
    parser.add_argument("--all", action="store_true", help="AdamW and SGD too")
    arguments = parser.parse_args()
    seconds = 1 if arguments.quick else 10

    print(*__doc__.strip().split("\n\n")[1:], sep="\n\n")
    if not JIT:
        print("Numba is missing or switched off: optim_nb runs its NumPy rule, so expect no speed.\n")
    if not torch:
        print("PyTorch is not installed here: no comparison with it.\n")
    threads = numba.get_num_threads() if JIT else os.cpu_count()
    if torch:
        torch.set_num_threads(threads)
    print(f"{threads} threads each, numpy {np.__version__}", *[f"{module.__name__} {module.__version__}"
          for module in (numba, torch) if module], sep=", ", end="\n\n")
    for title in OPTIMIZERS if arguments.all else ["Adam"]:
        for fresh in (True, False) if arguments.same else (True,):
            race(title, seconds, fresh)
    if JIT:
        bandwidth(seconds)
        half_precision(seconds)
        family(seconds / 2)
    muon(seconds)
    adafactor(seconds)
    overhead(seconds)
    lbfgs(seconds)
    first_step(3 if arguments.quick else 9)
    if JIT:
        cold_compile()
    cold_start(3 if arguments.quick else 7)


if __name__ == "__main__":
    main()
