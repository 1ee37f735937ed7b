"""The contract of torch.optim.Optimizer, for every optimizer of the table in conftest.py."""
import copy, gc, inspect, pickle, re, threading, weakref
from types import SimpleNamespace
from typing import Annotated
import numpy as np, pytest
import optim_nb
from conftest import arrays_in, give_grads, memory_growth, normal, parameters, same, shaped, train
from optim_nb import Adam, AdamW, Optimizer, Parameter, SGD, batch as batching, kernels, no_grad
from optim_nb.batch import whole
from optim_nb.kernels import Storage, bfloat16, float_to_half, fused, half_to_float, sign, sqrt
from optim_nb.optimizer import Range, hyperparameters, required
from optim_nb.optimizers.adam import adam_rule


class Holder:
    "The least that can be optimized."
    def __init__(self, data, grad=None): self.data, self.grad = data, grad


def state(opt, p): return dict(opt.state[p]) if p in opt.state else {}

def assert_twins(opt, params, other, others):
    "Same parameters and same state, bit for bit."
    for p, q in zip(params, others, strict=True):
        assert same(p.data, q.data) and same(state(opt, p), state(other, q))

def members(opt): return [p for g in opt.param_groups for p in g["params"]]

def clone(params): return [Parameter(p.data.copy()) for p in params]

def taken(case, dtypes):
    "These dtypes; for a case that takes no complex numbers, once it has refused them, the real ones in their place."
    if case.complex or not any(d.startswith("c") for d in dtypes): return dtypes
    params = parameters(dtype="c8")
    give_grads(params)
    with pytest.raises((RuntimeError, ValueError), match="does not support complex parameters$"): case(params).step()
    return [dict(c8="f4", c16="f8").get(d, d) for d in dtypes]


# ---- groups

WAYS = {
    "list": lambda ps: ps,
    "tuple": tuple,
    "generator": iter,
    "dict values": lambda ps: dict(enumerate(ps)).values(),
    "one group": lambda ps: [{"params": ps}],
    "generator in a group": lambda ps: [{"params": iter(ps)}],
    "generator of groups": lambda ps: ({"params": p} for p in ps),
    "one parameter per group": lambda ps: [{"params": p} for p in ps],
    "named": lambda ps: [(f"p{i}", p) for i, p in enumerate(ps)],
    "named generator": lambda ps: zip("ab", ps),
    "named in groups": lambda ps: [{"params": [("w", p)]} for p in ps],
    "dict items": lambda ps: dict(zip("ab", ps)).items(),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_to_give_parameters(case, way):
    params = parameters()
    opt = case(way(params))
    assert list(map(id, members(opt))) == list(map(id, params))
    plain = clone(params)
    train(opt, params, 3)
    expected = case(plain)
    train(expected, plain, 3)
    assert_twins(opt, params, expected, plain)


def test_names_are_kept():
    params = parameters()
    opt = SGD(zip(["weight", "bias"], params))
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"] and list(map(id, members(opt))) == list(map(id, params))
    assert opt.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    params[1].data.flags.writeable = False
    give_grads(params)
    with pytest.raises(ValueError, match="bias is read-only"): opt.step()


def test_defaults_and_overrides(case):
    a, b = parameters()
    opt = case([{"params": [a]}, {"params": [b], "lr": 0.5, "lr_scale": 3, "name": "head"}])
    first, second = opt.param_groups
    assert first["lr"] == 0.1 and second["lr"] == 0.5 and opt.defaults["lr"] == 0.1
    assert second["lr_scale"] == 3 and second["name"] == "head" and "name" not in first
    for key, value in opt.defaults.items(): assert first[key] == value and (key == "lr" or second[key] == value)
    for key, value in case.options.items(): assert first[key] == value
    train(opt, [a, b], 2)
    first["lr"] = 7.0
    assert opt.defaults["lr"] == 0.1 and second["lr"] == 0.5


def test_defaults_are_torchs():
    p = parameters()
    common = dict(maximize=False, foreach=None, differentiable=False, fused=None)
    assert SGD(p).defaults == dict(lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False) | common
    adam = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, capturable=False) | common
    assert Adam(p).defaults == adam | dict(decoupled_weight_decay=False)
    assert AdamW(p).defaults == adam | dict(weight_decay=1e-2, decoupled_weight_decay=True)


def test_arguments_are_keyword_only_where_torchs_are():
    p = parameters()
    assert SGD(p, 0.1, 0.9, 0, 0.01, True).param_groups[0]["nesterov"] is True
    assert Adam(p, 0.1, (0.9, 0.99), 1e-7, 0.1, True).param_groups[0]["amsgrad"] is True
    assert AdamW(p, 0.1, (0.9, 0.99), 1e-7, 0.1, True).param_groups[0]["weight_decay"] == 0.1
    with pytest.raises(TypeError): SGD(p, 0.1, 0.9, 0, 0.01, True, True)
    with pytest.raises(TypeError): Adam(p, 0.1, (0.9, 0.99), 1e-7, 0.1, True, True)
    with pytest.raises(TypeError): AdamW(p, 0.1, (0.9, 0.99), 1e-7, 0.1, True, decoupled_weight_decay=True)


def test_what_the_user_gave_is_not_changed(case):
    a, b = parameters()
    inner = [a]
    groups = [{"params": inner, "name": "first"}, {"params": [b], "lr": 0.5}]
    opt = case(groups)
    train(opt, [a, b], 2)
    opt.load_state_dict(opt.state_dict())
    opt.param_groups[0]["params"].append(parameters()[0])
    assert list(groups[0]) == ["params", "name"] and groups[1] == {"params": [b], "lr": 0.5} and groups[0]["params"] is inner
    assert len(inner) == 1 and len(groups) == 2
    flat = [a, b]
    case(flat).param_groups[0]["params"].pop()
    assert len(flat) == 2


def test_add_param_group_in_mid_training(case):
    a, b = parameters()
    opt, alone_a, alone_b = case([a]), clone([a]), clone([b])
    train(opt, [a], 2)
    opt.add_param_group({"params": (p for p in [b]), "lr": 0.5, "name": "late"})
    assert len(opt.param_groups) == 2 and opt.param_groups[1]["name"] == "late"
    for t in range(3):
        give_grads([a, b], t)
        opt.step()
    first, second = case(alone_a), case(alone_b, lr=0.5)
    train(first, alone_a, 2)
    for t in range(3):
        give_grads(alone_a + alone_b, t)
        first.step(), second.step()
    assert_twins(opt, [a], first, alone_a)
    assert_twins(opt, [b], second, alone_b)


@pytest.mark.parametrize("shapes, dtypes", [([(3,), (2, 2), (), (0,), (0, 4), (65,)], ["f8"]), ([(3,), (4,), (5,)], ["f4", "f8", "f4"]),
                                            ([(3,), (4,), (5,), ()], ["f2", "c8", "c16", "f4"])])
def test_a_group_is_its_parameters_one_by_one(case, shapes, dtypes):
    dtypes = taken(case, dtypes)
    params = [Parameter(normal(s, dtypes[i % len(dtypes)], i)) for i, s in enumerate(shapes)]
    alone = clone(params)
    opt, singles = case(params), [case([p]) for p in alone]
    for t in range(4):
        give_grads(params, t), give_grads(alone, t)
        opt.step()
        for single in singles: single.step()
    for p, single, q in zip(params, singles, alone): assert_twins(opt, [p], single, [q])
    for p in params:
        assert set(opt.state[p]) == {*case.kept(p), *case.cls.carries, *(["step"] if case.counts else [])}
        for b, shape in case.kept(p).items():
            kept = np.dtype("f4") if p.data.dtype == np.float16 else p.data.dtype
            assert opt.state[p][b].dtype == kept and opt.state[p][b].shape == shape
        if case.counts: assert type(opt.state[p]["step"]) is int and opt.state[p]["step"] == 4


def test_serial_and_parallel_steps_are_the_same(case, monkeypatch):
    params = [Parameter(normal((n,), "f4", n)) for n in (5, 3000, 40_000)]
    twins = clone(params)
    opt, other = case(params), case(twins)
    train(opt, params, 4)
    monkeypatch.setattr(batching, "PARALLEL_FROM", 0)
    train(other, twins, 4)
    assert_twins(opt, params, other, twins)


@pytest.mark.parametrize("layout", [lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2], np.asfortranarray, lambda a: a.astype(">f8"),
                                    lambda a: a[::-1].copy()[::-1]], ids=["strided", "Fortran", "big-endian", "reversed"])
def test_the_array_the_user_holds_is_updated(case, layout):
    held = layout(normal((4, 6)))
    p, q = Parameter(held), Parameter(np.ascontiguousarray(held, "f8").copy())
    for t in range(3):
        p.grad = layout(normal((4, 6), seed=t))
        q.grad = normal((4, 6), seed=t)
        if t == 0: opt, plain = case([p]), case([q])
        opt.step(), plain.step()
    assert p.data is held
    np.testing.assert_array_equal(held, q.data)


def test_duck_typed_parameters(case):
    a, [p] = Holder(normal()), parameters((3,))
    p.data[...] = a.data
    opt, plain = case([a]), case([p])
    for t in range(3):
        a.grad = normal(seed=t)
        p.grad = normal(seed=t)
        opt.step(), plain.step()
    assert same(a.data, p.data)
    with pytest.raises(TypeError, match="hash"): case([SimpleNamespace(data=np.ones(2), grad=None)])


# ---- errors: type, message, and nothing changed

def leaf(): return Parameter(np.ones(shaped(2)))

def shared(): p = leaf(); return [{"params": [p]}, {"params": [p]}]

BAD_PARAMS = {
    "empty list": (lambda: [], ValueError, "^optimizer got an empty parameter list$"),
    "spent generator": (lambda: iter([]), ValueError, "^optimizer got an empty parameter list$"),
    "bare Parameter": (leaf, TypeError, "^params argument given to the optimizer should be an iterable of Tensors or dicts, but got .*Parameter"),
    "bare array": (lambda: np.ones(3), TypeError, "^params argument given to the optimizer should be an iterable of Tensors or dicts, but got numpy.ndarray"),
    "number": (lambda: 5, TypeError, "but got int"),
    "None": (lambda: None, TypeError, "but got NoneType"),
    "set": (lambda: {leaf()}, TypeError, "organized in ordered collections, but the ordering of tensors in sets will change between runs"),
    "frozenset": (lambda: frozenset([leaf()]), TypeError, "organized in ordered collections"),
    "set in a group": (lambda: [{"params": {leaf()}}], TypeError, "organized in ordered collections"),
    "numbers": (lambda: [1.0], TypeError, "^optimizer can only optimize Tensors, but one of the params is float"),
    "arrays": (lambda: [np.ones(2)], TypeError, "^optimizer can only optimize Tensors, but one of the params is numpy.ndarray"),
    "one array": (lambda: [leaf(), np.ones(2)], TypeError, "^optimizer can only optimize Tensors"),
    "text": (lambda: "weights", TypeError, "^optimizer can only optimize Tensors, but one of the params is str"),
    "a dict of parameters": (lambda: {"w": leaf()}, TypeError, "^optimizer can only optimize Tensors, but one of the params is str"),
    "non-leaf": (lambda: [leaf() * 2], ValueError, "^can't optimize a non-leaf Tensor$"),
    "two groups": (shared, ValueError, "^some parameters appear in more than one parameter group$"),
    "half-named": (lambda: [("w", leaf()), leaf()], ValueError, "^all optimizer params should be with/without names. Some param names are missing$"),
    "half-named groups": (lambda: [{"params": [("w", leaf())]}, {"params": [leaf()]}], ValueError, "^all optimizer param groups should be with/without names"),
    "not a group": (lambda: [{"params": [leaf()]}, [leaf()]], TypeError, "^param_group must be a dict, but got <class 'list'>"),
    "no params": (lambda: [{"lr": 0.1}], KeyError, "params"),
    "integers": (lambda: [Holder(np.ones(3, int))], TypeError, "can't optimize dtype int64"),
    "read-only": (lambda: [Holder(np.broadcast_to(1.0, (3,)))], ValueError, "read-only"),
    "a list for data": (lambda: [Holder([1.0])], TypeError, "must hold a NumPy array, got list"),
}


@pytest.mark.parametrize("make, error, message", BAD_PARAMS.values(), ids=BAD_PARAMS)
def test_bad_parameters_are_refused(optimizer, make, error, message):
    with pytest.raises(error, match=message): optimizer(make(), lr=0.1)


BAD_LR = r"^(Invalid learning rate:|Learning rate should be >= 0 but is:) -1(\.0)?$"  # torch has two ways to say it

BAD_GROUPS = {
    "a list": (lambda p: [leaf()], TypeError, "^param_group must be a dict"),
    "set": (lambda p: {"params": {leaf()}}, TypeError, "ordered collections"),
    "numbers": (lambda p: {"params": [1]}, TypeError, "can only optimize Tensors"),
    "non-leaf": (lambda p: {"params": [leaf(), leaf() + 1]}, ValueError, "non-leaf"),
    "known parameter": (lambda p: {"params": [leaf(), p]}, ValueError, "more than one parameter group"),
    "names": (lambda p: {"params": [("w", leaf())]}, ValueError, "with/without names"),
    "half-named": (lambda p: {"params": [("w", leaf()), leaf()]}, ValueError, "with/without names"),
    "no params": (lambda p: {"lr": 0.1}, KeyError, "params"),
    "negative lr": (lambda p: {"params": [leaf()], "lr": -1}, ValueError, BAD_LR),
}


@pytest.mark.parametrize("make, error, message", BAD_GROUPS.values(), ids=BAD_GROUPS)
def test_bad_groups_are_refused(case, unchanged, make, error, message):
    params = parameters()
    opt = case(params)
    train(opt, params, 1)
    with unchanged(opt), pytest.raises(error, match=message): opt.add_param_group(make(params[0]))
    train(opt, params, 1)


nan, inf = float("nan"), float("inf")
BAD_OPTIONS = [
    (SGD, dict(lr=-0.1), "^Invalid learning rate: -0.1$"), (SGD, dict(lr=nan), "^Invalid learning rate: nan$"),
    (SGD, dict(momentum=-0.5), "^Invalid momentum value: -0.5$"), (SGD, dict(weight_decay=-1.0), "^Invalid weight_decay value: -1.0$"),
    (SGD, dict(nesterov=True), "^Nesterov momentum requires a momentum and zero dampening$"),
    (SGD, dict(nesterov=True, momentum=0.9, dampening=0.1), "^Nesterov momentum requires a momentum and zero dampening$"),
    *((cls, options, message) for cls in (Adam, AdamW) for options, message in [
        (dict(lr=-0.1), "^Invalid learning rate: -0.1$"), (dict(lr=nan), "^Invalid learning rate: nan$"),
        (dict(betas=(1.0, 0.9)), "^Invalid beta parameter at index 0: 1.0$"), (dict(betas=(-0.1, 0.9)), "^Invalid beta parameter at index 0: -0.1$"),
        (dict(betas=(0.9, 1.5)), "^Invalid beta parameter at index 1: 1.5$"), (dict(betas=(0.9, nan)), "^Invalid beta parameter at index 1: nan$"),
        (dict(eps=-1e-8), "^Invalid epsilon value: -1e-08$"), (dict(weight_decay=-1.0), "^Invalid weight_decay value: -1.0$"),
        (dict(lr="fast"), "^Invalid learning rate: fast$"), (dict(lr=None), "^Invalid learning rate: None$")]),
]


@pytest.mark.parametrize("cls, options, message", BAD_OPTIONS, ids=lambda x: getattr(x, "__name__", None) or (str(x) if isinstance(x, dict) else ""))
def test_bad_options_are_refused(cls, options, message):
    with pytest.raises(ValueError, match=message): cls(parameters(), **options)
    with pytest.raises(ValueError, match=message): cls([{"params": parameters(), **options}])  # torch lets these pass


def test_the_number_of_betas():
    for betas in ((0.9,), (0.9, 0.99, 0.999), 0.9):
        with pytest.raises((ValueError, TypeError)): Adam(parameters(), betas=betas)


def test_flags_of_torch(optimizer):
    taken = inspect.signature(optimizer).parameters
    if "foreach" not in taken:  # torch does not offer it here
        with pytest.raises(TypeError): optimizer(parameters(), lr=0.1, foreach=True, fused=True)
        return
    for flags in (dict(foreach=True), dict(fused=True), dict(foreach=False, fused=False), dict(fused=True, foreach=False)):
        if not flags.keys() <= hyperparameters(optimizer).keys(): continue  # torch has no fused implementation of many
        params, plain = parameters(), parameters()
        opt, other = optimizer(params, lr=0.1, **flags), optimizer(plain, lr=0.1)
        train(opt, params, 2), train(other, plain, 2)
        assert_twins(opt, params, other, plain)
        assert opt.param_groups[0]["foreach"] == flags.get("foreach")
    if "fused" in hyperparameters(optimizer):
        with pytest.raises(RuntimeError, match="^`fused` and `foreach` cannot be `True` together.$"):
            optimizer(parameters(), lr=0.1, fused=True, foreach=True)
    for flag in {"capturable", "differentiable"} & set(opt.defaults):
        with pytest.raises(ValueError, match=f"{flag}=True is not supported: "): optimizer(parameters(), lr=0.1, **{flag: True})


def test_required_options():
    class Needy(Optimizer):
        def __init__(self, params, lr=required): super().__init__(params, dict(lr=lr))
    with pytest.raises(ValueError, match="^parameter group didn't specify a value of required optimization parameter lr$"):
        Needy(parameters())
    opt = Needy([{"params": parameters(), "lr": 0.1}])
    assert repr(opt.defaults["lr"]) == "<required parameter>" and copy.deepcopy(opt).defaults["lr"] is required
    with pytest.raises(ValueError, match="didn't specify"): opt.add_param_group({"params": parameters()})
    assert len(opt.param_groups) == 1


def test_duplicates_warn_and_are_updated_once(case):
    (p, other), (q, _) = parameters(), parameters()
    with pytest.warns(UserWarning, match="^optimizer contains a parameter group with duplicate parameters"): opt = case([p, other, p])
    plain = case([q])
    for t in range(3):
        give_grads([p, other], t), give_grads([q], t)
        opt.step(), plain.step()
    assert_twins(opt, [p], plain, [q])


BAD_GRADS = {
    "shape": (lambda p: np.ones(p.shape + (1,)), RuntimeError, "shape"),
    "dtype": (lambda p: np.ones(p.shape, "f4"), RuntimeError, "dtype"),
    "list": (lambda p: p.tolist(), TypeError, "array"),
}


@pytest.mark.parametrize("trained", [0, 2])
@pytest.mark.parametrize("make, error, message", BAD_GRADS.values(), ids=BAD_GRADS)
def test_bad_gradients_are_refused(case, unchanged, make, error, message, trained):
    params = [Holder(normal()), Holder(normal((2, 2)))]
    opt = case([{"params": [p]} for p in params])
    train(opt, params, trained)
    give_grads(params)
    params[1].grad = make(params[1].data)
    with unchanged(opt), pytest.raises(error, match=message): opt.step()
    with pytest.raises((TypeError, RuntimeError)): leaf().grad = make(np.ones(2))
    give_grads(params, trained)
    opt.step()
    twins = [Holder(normal()), Holder(normal((2, 2)))]
    plain = case(twins)
    train(plain, twins, trained + 1)
    assert_twins(opt, params, plain, twins)


LATE_RUBBISH = {
    "read-only data": lambda opt, p: setattr(p, "data", np.broadcast_to(1.0, (3,))),
    "data of another shape": lambda opt, p: setattr(p, "data", np.ones(7)),
    "integer data": lambda opt, p: setattr(p, "data", np.ones(3, int)),
    "lr None": lambda opt, p: opt.param_groups[1].update(lr=None),
    "lr text": lambda opt, p: opt.param_groups[1].update(lr="fast"),
    "lr missing": lambda opt, p: opt.param_groups[1].pop("lr"),
    "weight_decay None": lambda opt, p: opt.param_groups[1].update(weight_decay=None),
}


@pytest.mark.parametrize("what", LATE_RUBBISH)
@pytest.mark.parametrize("trained", [0, 2])
def test_whatever_fails_in_a_step_changes_nothing(case, unchanged, what, trained):
    params = [Holder(normal()), Holder(normal())]
    opt = case([{"params": [p]} for p in params])
    train(opt, params, trained)
    give_grads(params, 9)
    LATE_RUBBISH[what](opt, params[1])
    option = what.split()[0]  # one that is not there, or is not read any more, spoils nothing
    if option in ("lr", "weight_decay") and (option not in opt.defaults or trained and option in case.spent): return opt.step()
    with unchanged(opt), pytest.raises(Exception): opt.step()


def test_an_array_frozen_later_is_refused(case, unchanged):
    params = parameters()
    opt = case(params)
    train(opt, params, 2)
    params[1].data.flags.writeable = False
    with unchanged(opt), pytest.raises(ValueError, match="read-only"): opt.step()


def test_spoilt_buffers_are_refused(case, unchanged):
    for b in case.buffers:
        for bad in (np.zeros(5), np.zeros(4, int), "rubbish"):
            params = parameters((4,), (4,))
            opt = case(params)
            train(opt, params, 1)
            opt.state[params[1]][b] = bad
            with unchanged(opt), pytest.raises((TypeError, ValueError), match=b): opt.step()


# ---- step, gradients, closures

def test_zero_grad(case):
    params = parameters()
    opt = case(params[:1])
    opt.add_param_group({"params": params[1:]})
    give_grads(params)
    held = [p.grad for p in params]
    opt.zero_grad(set_to_none=False)
    assert all(p.grad is g and not g.any() for p, g in zip(params, held))
    opt.zero_grad()
    assert [p.grad for p in params] == [None, None]
    opt.zero_grad(set_to_none=False)
    assert [p.grad for p in params] == [None, None]


def test_closure(case):
    [p], calls = parameters((3,)), []
    opt = case([p])
    def closure():
        calls.append(p.data.copy())
        opt.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss
    start = p.data.copy()
    loss = opt.step(closure)
    assert len(calls) == 1 and same(calls[0], start) and loss.item() == pytest.approx((start * start).sum()) and not same(p.data, start)
    with no_grad(): assert opt.step(closure).item() < 1e9  # as in torch, the closure records all the same
    assert opt.step() is None and opt.step(closure=closure) is not None and len(calls) == 3


def test_a_closure_that_fails(case, unchanged):
    params = parameters()
    opt = case(params)
    train(opt, params, 1)
    def closure(): raise ZeroDivisionError
    with unchanged(opt), pytest.raises(ZeroDivisionError): opt.step(closure)


def test_no_gradient_means_no_change(case, unchanged):
    params = parameters()
    opt = case(params)
    with unchanged(opt): opt.step()
    train(opt, params, 2)
    opt.zero_grad()
    with unchanged(opt): opt.step()
    assert len(opt.state) == (len(params) if case.buffers or case.counts else len(opt.state))


def test_zero_gradients_still_decay():
    for cls in (SGD, AdamW):
        p = Parameter(np.array([2.0, -4.0]))
        p.grad = np.zeros(2)
        cls([p], lr=0.5, weight_decay=0.1).step()
        np.testing.assert_allclose(p.data, [1.9, -3.8], rtol=1e-15)


def test_gradients_that_come_and_go(case):
    "Each parameter counts its own steps: together they do what each would do alone."
    params = parameters((3,), (2, 2), (), (4,))
    alone = clone(params)
    opt, singles = case(params), [case([q]) for q in alone]
    rng = np.random.default_rng(0)
    counts = [0] * 4
    for t in range(25):
        give_grads(params, t), give_grads(alone, t)
        for i in range(3):  # the last parameter waits for step 20
            if rng.random() < 0.4: params[i].grad = alone[i].grad = None
        if t < 20: params[3].grad = alone[3].grad = None
        counts = [n + (p.grad is not None) for n, p in zip(counts, params)]
        opt.step()
        for single in singles: single.step()
        for p, q, single in zip(params, alone, singles): assert_twins(opt, [p], single, [q])
    if case.counts: assert [opt.state[p]["step"] for p in params] == counts


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("first", [0, 2])
def test_gradients_that_share_memory_with_parameters(case, groups, first):
    "The update is simultaneous, however the parameters are grouped and whatever steps they have taken."
    both = normal((8,))
    p, q = Parameter(both[:4]), Parameter(both[4:])
    a, b = clone([p, q])
    opt = case([p, q] if groups == 1 else [{"params": p}, {"params": q}])
    other = case([a, b])
    for t in range(first):
        for x in (p, a): x.grad = normal((4,), seed=t)
        opt.step(), other.step()
    for _ in range(3):
        p.grad, q.grad = q.data, p.data
        a.grad, b.grad = b.data.copy(), a.data.copy()
        opt.step(), other.step()
        assert_twins(opt, [p, q], other, [a, b])


@pytest.mark.parametrize("groups", [1, 2])
def test_parameters_that_share_memory_are_refused(case, unchanged, groups):
    both = normal((7,))
    params = [Parameter(both[:4]), Parameter(both[3:])]
    opt = case(params if groups == 1 else [{"params": p} for p in params])
    give_grads(params)
    with unchanged(opt), pytest.raises(ValueError, match="share memory"): opt.step()


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_nan_and_inf_gradients_do_what_torch_does(case, value):
    "No error: the element they belong to is spoilt, everything else is as if they had not been there."
    params = parameters((3,), (4,))
    twins = clone(params)
    opt, other = case(params), case(twins)
    for t in range(3):
        give_grads(params, t), give_grads(twins, t)
        if t == 1: params[0].grad[1] = value
        opt.step(), other.step()
    assert same(params[1].data, twins[1].data)
    if not case.elementwise:
        assert np.isnan(params[0].data if case.ndim else params[0].data[1]).all()  # a matrix as a whole
        return
    assert same(params[0].data[::2].copy(), twins[0].data[::2].copy())
    assert np.isfinite(params[0].data[1]) == case.signs
    if issubclass(case.cls, Adam): assert np.isnan(params[0].data[1])  # inf / sqrt(inf)


def test_maximize(case):
    params, twins = parameters(), parameters()
    if "maximize" not in hyperparameters(case.cls):  # nor in torch
        with pytest.raises(TypeError, match="maximize"): case(params, maximize=True)
        return
    maximize = case.options.get("maximize", False)
    opt, other = case(params, maximize=not maximize), case(twins)
    for t in range(4):
        give_grads(params, t), give_grads(twins, t)
        for q in twins: q.grad = np.asarray(-q.grad)
        opt.step(), other.step()
    assert_twins(opt, params, other, twins)


# ---- what the user changes between steps

def test_hyperparameters_are_read_at_every_step(case):
    params = parameters()
    opt = case(params)
    train(opt, params, 2)
    opt.param_groups[0].update(lr=0.0)
    train(opt, params, case.lag, 2)
    before = [p.data.copy() for p in params]
    train(opt, params, 1, 2 + case.lag)
    assert same([p.data for p in params], before) != ("lr" in case.spent)


LATE = [(SGD, {}, dict(momentum=0.9)), (SGD, dict(momentum=0.9), dict(nesterov=True)), (SGD, dict(momentum=0.9), dict(momentum=0)),
        (Adam, {}, dict(amsgrad=True)), (AdamW, {}, dict(amsgrad=True)), (Adam, dict(amsgrad=True), dict(amsgrad=False)),
        (Adam, {}, dict(betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)), (Adam, {}, dict(decoupled_weight_decay=True, weight_decay=0.1)),
        (SGD, {}, dict(maximize=True, weight_decay=0.1))]


@pytest.mark.parametrize("cls, options, late", LATE, ids=lambda x: getattr(x, "__name__", str(x)))
def test_late_switches(cls, options, late):
    params = parameters()
    opt = cls(params, lr=0.1, **options)
    train(opt, params, 2)
    twins = clone(params)
    fresh = cls(twins, lr=0.1, **options | late)
    for p, q in zip(params, twins): fresh.state[q].update(copy.deepcopy(opt.state[p]) if p in opt.state else {})
    opt.param_groups[0].update(late)
    train(opt, params, 3, 2), train(fresh, twins, 3, 2)
    assert_twins(opt, params, fresh, twins)


def test_momentum_switched_on_late_starts_from_the_gradient():
    p = Parameter(np.zeros(1))
    opt = SGD([p], lr=1.0)
    p.grad = np.ones(1)
    opt.step()
    opt.param_groups[0].update(momentum=0.5, dampening=0.25)
    opt.step()
    assert p.data == -2 and opt.state[p]["momentum_buffer"] == 1  # dampening is not applied to the first
    opt.step()
    assert opt.state[p]["momentum_buffer"] == 1.25


@pytest.mark.parametrize("change", [lambda p: setattr(p, "data", p.data * 2), lambda p: p.data.__imul__(2),
                                    lambda p: setattr(p, "data", np.asfortranarray(p.data * 2)),
                                    lambda p: setattr(p, "data", np.repeat(p.data * 2, 2).reshape(*p.data.shape, 2)[..., 0])],
                         ids=["new array", "in place", "Fortran", "strided"])
def test_data_may_be_replaced(case, change):
    params = parameters((2, 3), (4, 2))
    opt = case(params)
    train(opt, params, 2)
    twins = [Parameter(2 * p.data) for p in params]
    other = case(twins)
    for p, q in zip(params, twins): other.state[q].update(copy.deepcopy(opt.state[p]) if p in opt.state else {})
    for p in params: change(p)
    train(opt, params, 2, 2), train(other, twins, 2, 2)
    for p, q in zip(params, twins): np.testing.assert_array_equal(p.data, q.data)


def test_buffers_and_step_may_be_replaced(case):
    def start():
        params = parameters((3,))
        opt = case(params)
        train(opt, params, 3)
        return params, opt
    for key in [*case.buffers, *(["step"] if case.counts else [])]:
        (params, opt), (twins, other) = start(), start()
        new = 7 if key == "step" else np.full(shaped(3), 2.0)
        opt.state[params[0]][key] = new
        if key == "step": other.state[twins[0]] = other.state[twins[0]] | {key: new}
        else: other.state[twins[0]][key][...] = new
        train(opt, params, 2, 3), train(other, twins, 2, 3)
        assert_twins(opt, params, other, twins)
        if key == "step": assert opt.state[params[0]]["step"] == 9
        else: assert opt.state[params[0]][key] is new  # updated where it lies


def test_state_may_be_dropped(case):
    for drop in (lambda s, p: s.clear(), lambda s, p: s.pop(p, None), lambda s, p: s[p].clear(), lambda s, p: s.__setitem__(p, {})):
        params = parameters((3,))
        opt = case(params)
        train(opt, params, 3)
        drop(opt.state, params[0])
        twins = clone(params)
        other = case(twins)
        train(opt, params, 2), train(other, twins, 2)
        assert_twins(opt, params, other, twins)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, lambda a: np.repeat(a, 2, 0)[::2]], ids=["contiguous", "strided"])
def test_a_state_without_its_buffers_gets_new_ones(case, layout):
    p, q = (Parameter(layout(normal((3, 2)))) for _ in range(2))
    opt, other = case([p]), case([q])
    opt.state[p] = {}
    train(opt, [p], 2), train(other, [q], 2)
    assert_twins(opt, [p], other, [q])


def test_a_load_after_a_failed_first_step_counts(case):
    "The buffers that the failing step had made must not take the place of those that were loaded."
    source, holder, twin = Holder(normal((3, 2))), Holder(normal((3, 2))), Holder(normal((3, 2)))
    trained, opt, other = case([source]), case([holder]), case([twin])
    train(trained, [source], 2)
    holder.grad = np.ones((7, 2))
    with pytest.raises(RuntimeError, match="shape"): opt.step()
    opt.load_state_dict(trained.state_dict()), other.load_state_dict(trained.state_dict())
    train(opt, [holder], 2), train(other, [twin], 2)
    assert_twins(opt, [holder], other, [twin])


def test_groups_may_be_edited(case):
    a, b, c = parameters((3,), (3,), (3,))
    opt = case([{"params": [a]}, {"params": [b]}])
    train(opt, [a, b, c], 2)
    held = c.data.copy()
    opt.param_groups[0]["params"].append(c)
    train(opt, [a, b, c], 1, 2)
    assert not same(c.data, held)
    if case.counts: assert [opt.state[p]["step"] for p in (a, b, c)] == [3, 3, 1]
    opt.param_groups.pop(0)
    held = a.data.copy(), c.data.copy(), b.data.copy()
    train(opt, [a, b, c], 1, 3)
    assert same((a.data, c.data), held[:2]) and not same(b.data, held[2])
    opt.param_groups[0]["params"] = [a]
    held = b.data.copy()
    train(opt, [a, b, c], 1, 4)
    assert same(b.data, held)
    if case.counts: assert [opt.state[p]["step"] for p in (a, b, c)] == [4, 4, 1]


# ---- saving and loading

def test_state_dict_is_torchs_format(case):
    params = parameters()
    opt = case([{"params": params[:1], "name": "first"}, {"params": params[1:]}])
    train(opt, params, 2)
    saved = opt.state_dict()
    assert list(saved) == ["state", "param_groups"]
    assert [g["params"] for g in saved["param_groups"]] == [[0], [1]] and saved["param_groups"][0]["name"] == "first"
    assert {k: v for k, v in saved["param_groups"][1].items() if k != "params"} == {k: v for k, v in opt.param_groups[1].items() if k != "params"}
    if case.buffers or case.counts: assert list(saved["state"]) == [0, 1]
    for i, p in enumerate(params):
        assert same(saved["state"].get(i, {}), state(opt, p))
        assert set(saved["state"].get(i, {})) == {*case.kept(p), *case.cls.carries, *(["step"] if case.counts else [])}


def test_state_dicts_are_copies(case):
    params = parameters()
    opt = case(params)
    train(opt, params, 2)
    saved = opt.state_dict()
    live = [*arrays_in([p.data for p in params]), *arrays_in(list(opt.state.values()))]
    assert not any(np.shares_memory(a, b) for a in arrays_in(saved) for b in live)
    before = copy.deepcopy(saved)
    train(opt, params, 2, 2)
    opt.param_groups[0]["lr"] = 9
    assert same(saved, before)
    other = case(parameters())
    other.load_state_dict(saved)
    assert not any(np.shares_memory(a, b) for a in arrays_in(saved) for b in arrays_in(list(other.state.values())))
    train(other, members(other), 2, 2)
    assert same(saved, before)
    other.param_groups[0]["params"].pop()
    assert same(saved, before)


@pytest.mark.parametrize("through", [lambda d: d, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))], ids=["as it is", "deepcopy", "pickle"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", ">f8"])
def test_a_round_trip_continues_bit_for_bit(case, through, dtype):
    dtype, = taken(case, [dtype])
    params = [Parameter(normal(s).astype(dtype)) for s in ((3,), (), (2, 2), (0,))]
    opt = case([{"params": params[:2], "lr": 0.01, "tag": "a"}, {"params": params[2:]}])
    train(opt, params[:3], 3)
    train(opt, params, 2, 3)
    saved, twins = through(opt.state_dict()), clone(params)
    other = case([{"params": twins[:2]}, {"params": twins[2:]}], lr=55.0)
    train(opt, params, 3, 5)
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == 0.01 and other.param_groups[0]["tag"] == "a" and other.param_groups[1]["lr"] == 0.1
    train(other, twins, 3, 5)
    for p, q in zip(params, twins):
        np.testing.assert_array_equal(p.data, q.data)
        assert same(state(opt, p), state(other, q))


def test_loading_into_a_trained_optimizer_replaces_everything(case):
    params, twins = parameters(), parameters()
    opt, other = case(params), case(twins)
    train(opt, params, 2), train(other, twins, 5, 50)
    other.load_state_dict(opt.state_dict())
    for p, q in zip(params, twins): q.data[...] = p.data
    train(opt, params, 2, 2), train(other, twins, 2, 2)
    assert_twins(opt, params, other, twins)
    fresh = case(parameters())
    other.load_state_dict(fresh.state_dict())
    assert same([*map(dict, other.state.values())], [*map(dict, fresh.state.values())])


def spoiled(saved, edit):
    saved = copy.deepcopy(saved)
    edit(saved)
    return saved

BAD_DICTS = {
    "fewer groups": (lambda d: d["param_groups"].pop(), ValueError, "^loaded state dict has a different number of parameter groups$"),
    "more groups": (lambda d: d["param_groups"].append(d["param_groups"][0]), ValueError, "^loaded state dict has a different number"),
    "smaller group": (lambda d: d["param_groups"][1]["params"].pop(), ValueError,
                      "^loaded state dict contains a parameter group that doesn't match the size of optimizer's group$"),
    "larger group": (lambda d: d["param_groups"][0]["params"].append(9), ValueError, "^loaded state dict contains a parameter group that"),
    "no groups": (lambda d: d.pop("param_groups"), KeyError, "param_groups"),
    "no state": (lambda d: d.pop("state"), KeyError, "state"),
    "negative lr": (lambda d: d["param_groups"][1].update(lr=-1.0), ValueError, BAD_LR),
}


@pytest.mark.parametrize("edit, error, message", BAD_DICTS.values(), ids=BAD_DICTS)
def test_bad_state_dicts_change_nothing(case, unchanged, edit, error, message):
    params = parameters((3,), (2, 2), (4,))
    opt = case([{"params": params[:1]}, {"params": params[1:]}])
    train(opt, params, 2)
    saved = spoiled(opt.state_dict(), edit)
    opt.param_groups[0]["lr"] = 0.7
    with unchanged(opt), pytest.raises(error, match=message): opt.load_state_dict(saved)


def test_buffers_of_the_wrong_shape_are_not_loaded(case, unchanged):
    params, big = parameters((3,), (2, 2)), parameters((3,), (5, 5))
    opt, other = case(params), case(big)
    train(opt, params, 2), train(other, big, 2)
    if not case.buffers: return opt.load_state_dict(other.state_dict())
    wrong = re.escape(str(next(iter(case.kept(big[1]).values()))))
    with unchanged(opt), pytest.raises(ValueError, match=f"shape {wrong}"): opt.load_state_dict(other.state_dict())


@pytest.mark.parametrize("dtype, kept", [("f2", "f4"), ("f4", "f4"), ("f8", "f8")])
def test_loaded_buffers_take_the_dtype_of_the_parameter(case, dtype, kept):
    params = parameters(dtype="f8")
    opt = case(params)
    train(opt, params, 2)
    for p in params: opt.state[p]["visits"] = np.array([1, 2])
    other = case(parameters(dtype=dtype))
    other.load_state_dict(opt.state_dict())
    for p in other.param_groups[0]["params"]:
        for b in case.kept(p): assert other.state[p][b].dtype == np.dtype(kept)
        assert other.state[p]["visits"].dtype == np.array([1]).dtype
        if case.counts: assert type(other.state[p]["step"]) is int
    train(other, other.param_groups[0]["params"], 1)


def test_torchs_own_state_dict_continues():
    "As torch 2 writes it, its tensors converted to arrays: `step` is a float32 array of no dimension."
    params, twins = parameters(dtype="f4"), parameters(dtype="f4")
    opt, other = Adam(params, lr=0.1), Adam(twins, lr=0.3)
    train(opt, params, 3)
    saved = opt.state_dict()
    for s in saved["state"].values(): s["step"] = np.array(s["step"], np.float32)
    for p, q in zip(params, twins): q.data[...] = p.data
    other.load_state_dict(saved)
    assert all(type(other.state[q]["step"]) is int and other.state[q]["step"] == 3 for q in twins)
    train(opt, params, 2, 3), train(other, twins, 2, 3)
    assert_twins(opt, params, other, twins)


def test_torchs_sgd_without_momentum_saves_none():
    params, twins = parameters(), parameters()
    opt, other = SGD(params, lr=0.1, momentum=0.9), SGD(twins, lr=0.1, momentum=0.9)
    saved = opt.state_dict()
    saved["state"] = {0: {"momentum_buffer": None}, 1: {"momentum_buffer": None}}
    other.load_state_dict(saved)
    train(opt, params, 3), train(other, twins, 3)
    for p, q in zip(params, twins): assert same(p.data, q.data) and same(state(opt, p), state(other, q))


def test_a_dict_from_an_older_version_takes_the_defaults(case):
    params, twins = parameters(), parameters()
    opt, other = case(params), case(twins)
    train(opt, params, 2)
    saved = opt.state_dict()
    for key in ("foreach", "fused", "maximize", "differentiable"): saved["param_groups"][0].pop(key, None)
    other.load_state_dict(saved)
    for p, q in zip(params, twins): q.data[...] = p.data
    train(opt, params, 1, 2), train(other, twins, 1, 2)
    assert_twins(opt, params, other, twins)
    repr(other), other.state_dict()


def test_names_do_not_matter_when_loading():
    a, b = parameters(), parameters()
    opt, other = Adam(zip("wb", a)), Adam(zip("xy", b))
    train(opt, a, 2)
    other.load_state_dict(opt.state_dict())
    assert other.param_groups[0]["param_names"] == ["x", "y"]
    assert same(other.state[b[1]]["exp_avg"], opt.state[a[1]]["exp_avg"])


def test_pickle_and_deepcopy(case):
    for through in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        params = parameters((3,), (2, 2), dtype="f4")
        opt = case([{"params": params[:1], "name": "a"}, {"params": params[1:]}])
        train(opt, params, 2)
        twin = through(opt)
        twins = members(twin)
        assert type(twin) is case.cls and repr(twin) == repr(opt) and twin.defaults == opt.defaults
        assert all(p is not q and not np.shares_memory(p.data, q.data) for p, q in zip(params, twins))
        assert set(map(id, twin.state)) <= set(map(id, twins))
        assert_twins(opt, params, twin, twins)
        train(opt, params, 2, 2), train(twin, twins, 2, 2)
        assert_twins(opt, params, twin, twins)
        both, copied = through((params, opt))
        assert list(map(id, both)) == list(map(id, members(copied)))


def test_hooks_are_not_copied(case):
    params, calls = parameters(), []
    opt = case(params)
    opt.register_step_pre_hook(lambda *a: calls.append("pre"))
    opt.register_state_dict_pre_hook(lambda o: calls.append("save"))
    twin = copy.deepcopy(opt)
    again = pickle.loads(pickle.dumps(opt))
    for o in (twin, again):
        o.step()
        o.state_dict()
    assert calls == []


# ---- hooks

@pytest.fixture
def calls(): return []


def note(calls, name):
    def hook(*args): calls.append(name)
    return hook


def test_the_order_of_step_hooks(case, calls):
    params = parameters()
    opt, other = case(params), case(parameters())
    give_grads(params)
    start = params[0].data.copy()
    with (optim_nb.register_optimizer_step_post_hook(note(calls, "global post")),
          optim_nb.register_optimizer_step_pre_hook(note(calls, "global pre"))):
        opt.register_step_post_hook(note(calls, "post 1"))
        opt.register_step_pre_hook(note(calls, "pre 1"))
        opt.register_step_post_hook(lambda o, args, kwargs: calls.append(not same(params[0].data, start)))
        opt.register_step_pre_hook(lambda o, args, kwargs: calls.append(same(params[0].data, start)))
        opt.step(lambda: calls.append("closure"))
        assert calls == ["global pre", "pre 1", True, "closure", "post 1", True, "global post"]
        calls.clear()
        other.step()
        assert calls == ["global pre", "global post"]
    calls.clear()
    opt.step()
    assert calls == ["pre 1", False, "post 1", True]


def test_what_step_hooks_are_given(case, calls):
    opt = case(parameters())
    def closure(): return 3.0
    def hook(o, args, kwargs): calls.append((o, args, kwargs))
    opt.register_step_pre_hook(hook), opt.register_step_post_hook(hook)
    assert opt.step(closure) == 3.0 and opt.step(closure=closure) == 3.0
    assert [(o is opt, args[0] is opt, args[1:], kwargs) for o, args, kwargs in calls] == [
        (True, True, (closure,), {}), (True, True, (closure,), {}), (True, True, (), {"closure": closure}), (True, True, (), {"closure": closure})]


def test_a_pre_hook_may_change_the_arguments(case, calls):
    opt = case(parameters())
    opt.register_step_pre_hook(lambda o, args, kwargs: ((*args[:1], lambda: "changed"), {}))
    opt.register_step_pre_hook(lambda o, args, kwargs: calls.append(len(args)))
    assert opt.step() == "changed" and calls == [2]


@pytest.mark.parametrize("answer", [5, (1,), [1, 2], ((), {}, 3)])
def test_a_pre_hook_must_answer_properly(case, unchanged, answer):
    params = parameters()
    opt = case(params)
    give_grads(params)
    opt.register_step_pre_hook(lambda o, args, kwargs: answer)
    with unchanged(opt), pytest.raises(RuntimeError, match=r"must return None or a tuple of \(new_args, new_kwargs\), but got"):
        opt.step()


def test_post_hooks_do_not_run_after_a_failure(case, calls):
    opt = case(parameters())
    opt.register_step_pre_hook(note(calls, "pre")), opt.register_step_post_hook(note(calls, "post"))
    def closure(): raise ZeroDivisionError
    for _ in range(2):
        with pytest.raises(ZeroDivisionError): opt.step(closure)
    assert calls == ["pre", "pre"]
    opt.step()
    assert calls == ["pre", "pre", "pre", "post"]


def test_handles(case, calls):
    opt = case(parameters())
    handle = opt.register_step_pre_hook(note(calls, "a"))
    opt.register_step_pre_hook(note(calls, "b"))
    handle.remove()
    handle.remove()
    opt.step()
    assert calls == ["b"]
    with opt.register_step_post_hook(note(calls, "c")): opt.step()
    opt.step()
    assert calls == ["b", "b", "c", "b"]
    hook = note(calls, "twice")
    first = opt.register_step_post_hook(hook)
    opt.register_step_post_hook(hook)
    first.remove()
    calls.clear()
    opt.step()
    assert calls == ["b", "twice"]


def test_a_hook_may_remove_itself(case, calls):
    opt = case(parameters())
    def once(*args): calls.append("once"), handle.remove()
    handle = opt.register_step_pre_hook(once)
    opt.step(), opt.step()
    assert calls == ["once"]


def test_state_dict_hooks(case, calls):
    params = parameters()
    opt = case(params)
    train(opt, params, 1)
    opt.register_state_dict_pre_hook(note(calls, "pre 2"))
    opt.register_state_dict_pre_hook(note(calls, "pre 1"), prepend=True)
    opt.register_state_dict_post_hook(lambda o, d: d | {"note": calls.append("post 2")})
    opt.register_state_dict_post_hook(lambda o, d: calls.append(("post 1", list(d))), prepend=True)
    assert list(opt.state_dict()) == ["state", "param_groups", "note"]
    assert calls == ["pre 1", "pre 2", ("post 1", ["state", "param_groups"]), "post 2"]


def test_load_hooks(case, calls):
    params = parameters()
    opt = case(params)
    saved = opt.state_dict()
    def change(o, d):
        calls.append("pre 2")
        d = copy.deepcopy(d)
        d["param_groups"][0]["lr"] = 0.625
        return d
    opt.register_load_state_dict_pre_hook(change)
    opt.register_load_state_dict_pre_hook(lambda o, d: calls.append(("pre 1", d["param_groups"][0]["lr"])), prepend=True)
    opt.register_load_state_dict_post_hook(lambda o: calls.append(("post", o.param_groups[0]["lr"])))
    opt.load_state_dict(saved)
    assert calls == [("pre 1", 0.1), "pre 2", ("post", 0.625)] and saved["param_groups"][0]["lr"] == 0.1


def test_a_load_hook_may_edit_the_dict_in_place(case):
    opt = case(parameters())
    saved = opt.state_dict()
    opt.register_load_state_dict_pre_hook(lambda o, d: d.update(param_groups=[d["param_groups"][0] | {"lr": 0.625}]))
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["lr"] == 0.625
    assert saved["param_groups"][0]["lr"] == 0.1  # torch hands the hook a shallow copy


# ---- repr

def test_repr_is_torchs():
    assert repr(SGD(list(zip("wb", parameters())), lr=0.1)) == """SGD (
Parameter Group 0
    dampening: 0
    differentiable: False
    foreach: None
    fused: None
    lr: 0.1
    maximize: False
    momentum: 0
    nesterov: False
    param_names: ['w', 'b']
    weight_decay: 0
)"""
    a, b = parameters()
    assert repr(Adam([{"params": [a], "name": "x"}, {"params": [b], "lr": 0.1}])) == """Adam (
Parameter Group 0
    amsgrad: False
    betas: (0.9, 0.999)
    capturable: False
    decoupled_weight_decay: False
    differentiable: False
    eps: 1e-08
    foreach: None
    fused: None
    lr: 0.001
    maximize: False
    name: x
    weight_decay: 0

Parameter Group 1
    amsgrad: False
    betas: (0.9, 0.999)
    capturable: False
    decoupled_weight_decay: False
    differentiable: False
    eps: 1e-08
    foreach: None
    fused: None
    lr: 0.1
    maximize: False
    weight_decay: 0
)"""
    assert repr(AdamW([a])) == """AdamW (
Parameter Group 0
    amsgrad: False
    betas: (0.9, 0.999)
    capturable: False
    decoupled_weight_decay: True
    differentiable: False
    eps: 1e-08
    foreach: None
    fused: None
    lr: 0.001
    maximize: False
    weight_decay: 0.01
)"""


# ---- optimizers of one's own

@fused
def sign_rule(g, p, m, lr, beta):
    m = beta * m + (1 - beta) * g
    return p - lr * sign(m), m


class SignDescent(Optimizer):
    "Ten lines."
    rule, buffers = sign_rule, ("exp_avg",)
    def __init__(self, params, lr=1e-3, beta=0.9): super().__init__(params, dict(lr=lr, beta=beta))
    def coefficients(self, group, t): return dict(lr=group["lr"], beta=group["beta"])


def test_a_subclass_of_ten_lines():
    params = parameters((5,), (2, 3))
    start = [p.data.copy() for p in params]
    opt = SignDescent([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}], lr=0.25)
    give_grads(params)
    opt.step()
    for p, s, lr in zip(params, start, (0.25, 0.5)): np.testing.assert_allclose(p.data, s - lr * np.sign(p.grad), rtol=1e-12)
    saved, twins = opt.state_dict(), clone(params)
    other = SignDescent([{"params": twins[:1]}, {"params": twins[1:]}])
    other.load_state_dict(saved)
    train(opt, params, 2, 1), train(other, twins, 2, 1)
    assert_twins(opt, params, other, twins)
    assert opt.state[params[0]]["step"] == 3
    with pytest.raises(ValueError, match="Invalid learning rate"): SignDescent(params, lr=-1)


class TorchStyle(Optimizer):
    "As one writes it for PyTorch: a loop of one's own."
    def __init__(self, params, lr=0.1): super().__init__(params, dict(lr=lr))
    def step(self, closure=None):
        loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None: continue
                state = self.state[p]
                if not state: state["step"], state["sum"] = 0, np.zeros_like(p.data)
                state["step"] += 1
                state["sum"] += p.grad
                p.data -= group["lr"] * state["sum"]
        return loss


def test_a_subclass_with_a_loop_of_its_own(calls):
    params = parameters()
    opt = TorchStyle(params)
    opt.register_step_pre_hook(note(calls, "pre")), opt.register_step_post_hook(note(calls, "post"))
    scheduler = optim_nb.lr_scheduler.StepLR(opt, 1, 0.5)
    give_grads(params)
    assert opt.step(lambda: 7) == 7 and calls == ["pre", "post"]
    scheduler.step()  # no warning: the step was seen
    twins = clone(params)
    other = TorchStyle(twins)
    other.load_state_dict(opt.state_dict())
    train(opt, params, 2), train(other, twins, 2)
    assert_twins(opt, params, other, twins)


def test_a_subclass_that_extends_step(case, calls):
    class Counting(case.cls):
        def step(self, closure=None):
            calls.append("before")
            loss = super().step(closure)
            calls.append("after")
            return loss
    params, twins = parameters(), parameters()
    opt, other = Counting(params, **case.options), case(twins)
    opt.register_step_pre_hook(note(calls, "pre")), opt.register_step_post_hook(note(calls, "post"))
    give_grads(params), give_grads(twins)
    opt.step(), other.step()
    assert calls == ["pre", "before", "after", "post"]
    assert_twins(opt, params, other, twins)


def test_a_subclass_must_say_its_coefficients():
    class Silent(Optimizer):
        rule = sign_rule
        buffers = ("exp_avg",)
    params = parameters()
    opt = Silent(params, dict(lr=0.1))
    give_grads(params)
    with pytest.raises(NotImplementedError, match="Silent"): opt.step()


# ---- memory

def test_memory_does_not_grow(case):
    params = parameters((1000,), (10, 10), dtype="f4")
    opt = case(params)
    def work():
        for _ in range(300):
            for p in params: p.grad = np.ones(p.data.shape, "f4")
            opt.step()
            opt.zero_grad()
    assert memory_growth(work) < 20_000


def test_old_gradients_are_let_go(case):
    params = parameters((1000,))
    opt, refs = case(params), []
    for t in range(4):
        params[0].grad = np.ones(shaped(1000))
        refs.append(weakref.ref(params[0].grad))
        opt.step()
    gc.collect()
    assert [r() is None for r in refs] == [True, True, True, False]


def test_zero_grad_frees_the_gradients(case):
    params = parameters((1000,))
    opt = case(params)
    for t in range(3):
        params[0].grad = np.ones(shaped(1000))
        ref = weakref.ref(params[0].grad)
        opt.step()
        opt.zero_grad()
        gc.collect()
        assert ref() is None, "still held"


def test_the_optimizer_itself_can_be_freed(case):
    params = parameters()
    opt = case(params)
    train(opt, params, 2)
    ref = weakref.ref(opt)
    del opt
    gc.collect()
    assert ref() is None


def test_many_small_parameters(case):
    params, twins = ([Parameter(normal((2,), "f4", i)) for i in range(300)] for _ in range(2))
    opt, singles = case(params), [case([q]) for q in twins]
    for t in range(2):
        give_grads(params, t), give_grads(twins, t)
        opt.step()
        for s in singles: s.step()
    assert same([p.data for p in params], [q.data for q in twins])


def test_a_refused_gradient_leaves_no_trace_in_the_next_step():
    "Two parts: the first has taken its new gradient when the second is refused; then the old gradients come back."
    class Foreign:
        def __init__(self, data): self.data, self.grad = data, np.ones_like(data)
    a, b = Foreign(np.zeros(2)), Foreign(np.zeros(2, np.float32))
    opt = SGD([a, b], lr=1.0)
    opt.step()
    good = a.grad, b.grad
    a.grad, b.grad = np.full(2, 100.0), np.ones(3, np.float32)
    with pytest.raises(RuntimeError, match="shape"): opt.step()
    a.grad, b.grad = good
    opt.step()
    assert (a.data == -2).all() and (b.data == -2).all()


@pytest.mark.parametrize("orders", ["FCF", "CFC", "FFC", "CCF"])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_gradients_may_change_their_memory_layout(layout, orders):
    "The remembered plan knows addresses only: a new gradient in the other order must not be taken for one in the same."
    grad = np.arange(6.0).reshape(2, 3)
    p = Parameter(np.zeros((2, 3), order=layout))
    opt = SGD([p], lr=1.0)
    for order in orders:
        p.grad = np.array(grad, order=order)
        opt.step()
    np.testing.assert_array_equal(p.data, -len(orders) * grad)


# ---- arrays that change under the optimizer's feet

@pytest.mark.parametrize("size", [5, 400_000])
def test_a_resized_array_is_not_written_where_it_was(case, either_look, unchanged, size):
    "Its identity is the same, its memory is not: a step through an old address would corrupt what lies there now."
    p = Parameter(np.ones(shaped(4), np.float32))
    opt = case([p])
    train(opt, [p], 2)
    p.data.resize(shaped(size), refcheck=False)
    p.data[...] = 1
    squatters = [np.full(shaped(4), 7, np.float32) for _ in range(100)]  # in the memory that was freed
    if case.buffers:
        p.grad = normal((size,), "f4")
        with unchanged(opt), pytest.raises(ValueError, match=f"{case.buffers[0]} of parameter 0 of group 0 has shape"): opt.step()
        del opt.state[p]
    twin = Parameter(p.data.copy())
    other = case([twin])
    if case.counts is False and not case.buffers: train(other, [twin], 0)
    train(opt, [p], 2), train(other, [twin], 2)
    assert_twins(opt, [p], other, [twin])
    assert all((s == 7).all() for s in squatters)


def test_an_array_may_change_its_shape_in_place(case, either_look, unchanged):
    p, q = Parameter(normal((2, 3))), Parameter(normal((2, 3)))
    opt, other = case([p]), case([q])
    train(opt, [p], 2), train(other, [q], 2)
    p.data.shape = (3, 2)
    give_grads([p], 5)
    if case.buffers:
        with unchanged(opt), pytest.raises(ValueError, match="has shape"): opt.step()
    if case.factors: return  # other rows and columns have other moments
    for b in case.buffers: opt.state[p][b].shape = (3, 2)
    opt.step()
    if not case.elementwise:  # another matrix now: that it is updated is all there is to say
        assert np.isfinite(p.data).all() and not same(p.data.reshape(2, 3), q.data)
        return
    q.grad = normal((3, 2), seed=(7, 5, 0)).reshape(2, 3)
    other.step()
    assert same(p.data.reshape(2, 3), q.data)


def test_concurrent_steps_of_one_optimizer_are_all_taken(case):
    "Four threads, fifty steps each, are two hundred steps."
    params, twins = ([Parameter(normal((n,), "f4", n)) for n in (3, 500)] for _ in range(2))
    opt, other = case(params), case(twins)
    give_grads(params), give_grads(twins)
    barrier = threading.Barrier(4)
    def work():
        barrier.wait()
        for _ in range(50): opt.step()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    for _ in range(200): other.step()
    assert_twins(opt, params, other, twins)


@pytest.mark.parametrize("dtypes", [["f4"], ["f8"], ["f2"], ["f4", "f2", "f8", "c8", "c16"]], ids="-".join)
def test_both_looks_lead_to_the_same_step(case, dtypes, monkeypatch):
    dtypes = taken(case, dtypes)
    def run(asked):
        monkeypatch.setattr(batching, "_asked", asked)
        layouts = [np.ascontiguousarray, np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2]]
        params = [Parameter(layouts[i % 3](normal((3, 4), dtypes[i % len(dtypes)], i))) for i in range(7)]
        opt = case([{"params": params[:4]}, {"params": params[4:], "lr": 0.2}])
        for t in range(6):
            give_grads(params, t)
            for i, p in enumerate(params):
                if (t + i) % 4 == 0: p.grad = None
                elif (t + i) % 4 == 1: p.grad = np.asfortranarray(p.grad)
            opt.step()
        return [p.data for p in params], [state(opt, p) for p in params]
    assert same(run(np.inf if batching.STRUCTS else -np.inf), run(-np.inf))


def test_gradients_come_and_go(case, either_look):
    params, twins = parameters((3,), (2, 2), (4,)), parameters((3,), (2, 2), (4,))
    opt, singles = case(params), [case([q]) for q in twins]
    for t in range(12):
        give_grads(params, t), give_grads(twins, t)
        for i, (p, q) in enumerate(zip(params, twins)):
            if i == 0 or (t // 2 + i) % 3 == 0: p.grad = q.grad = None  # the first is frozen for good
        opt.step()
        for single in singles: single.step()
    for p, single, q in zip(params, singles, twins): assert_twins(opt, [p], single, [q])
    untouched = parameters((3,))
    assert same(state(opt, params[0]), state(case(untouched), untouched[0]))


# ---- storages, parts, rules of whole arrays, other libraries

class Rounded(Adam):
    "Adam that keeps its first moment in bfloat16."
    storages = {"exp_avg": bfloat16}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("parallel_from", [0, 10**9])
def test_a_stored_buffer_is_decoded_and_encoded_around_the_rule(dtype, parallel_from, monkeypatch, either_look):
    monkeypatch.setattr(batching, "PARALLEL_FROM", parallel_from)
    p = Parameter(normal((300, 7), dtype))
    opt, real = Rounded([p], lr=0.1), batching.compute_dtype(p.data.dtype)
    m, v, x = np.zeros(p.shape, np.uint16), np.zeros(p.shape, batching.state_dtype(p.data.dtype)), p.data.copy()
    for t in range(1, 6):
        p.grad = normal(p.shape, dtype, t)
        opt.step()
        named = opt.coefficients(opt.param_groups[0], t)
        values = [real.type(named[c]) for c in adam_rule.coefficients]
        new, decoded, v = adam_rule(p.grad.astype(real), x.astype(real), bfloat16.decode(m), v, *values)
        x, m = new.astype(dtype), np.asarray(bfloat16.encode(decoded), np.uint16)
    assert same(p.data, x) and same(opt.state[p]["exp_avg"], m) and same(opt.state[p]["exp_avg_sq"], v)


def test_stored_state_is_saved_loaded_and_converted():
    p = Parameter(normal((50,), "f4"))
    opt = Rounded([p], lr=0.1)
    train(opt, [p], 3)
    q = Parameter(p.data.copy())
    other = Rounded([q])
    other.load_state_dict(opt.state_dict())
    train(opt, [p], 3, 3), train(other, [q], 3, 3)
    assert_twins(opt, [p], other, [q])
    plain = Adam([p])
    train(plain, [p], 1)
    other.load_state_dict(plain.state_dict())  # floats are encoded on the way in
    np.testing.assert_allclose(bfloat16.decode(other.state[q]["exp_avg"]), plain.state[p]["exp_avg"], rtol=2**-8)
    assert other.state[q]["exp_avg"].dtype == np.uint16


def test_a_storage_is_refused_where_it_does_not_fit(unchanged):
    p = Parameter(normal((4,), "c16"))
    give_grads([p])
    opt = Rounded([p])
    with unchanged(opt), pytest.raises(TypeError, match="complex numbers cannot be kept as bfloat16"): opt.step()
    p = Parameter(normal((4,), "f4"))
    opt = Rounded([p])
    train(opt, [p], 1)
    opt.state[p]["exp_avg"] = np.zeros(4, np.float32)
    with unchanged(opt), pytest.raises(TypeError, match="float32, which does not go with bfloat16"): opt.step()


def test_eight_bits_fit_without_touching_a_rule():
    "float8 with five bits of exponent is the upper half of float16."
    def decode(bits): return half_to_float(np.uint16(bits) << 8)
    def encode(x): return float_to_half(x) + 0x7f + (float_to_half(x) >> 8 & 1) >> 8
    class Eight(SGD): storages = {"momentum_buffer": Storage("float8", np.dtype(np.uint8), decode, encode)}
    p = Parameter(np.zeros(1000, np.float32))
    opt = Eight([p], lr=0.1, momentum=0.5)
    for _ in range(20):
        p.grad = np.ones(1000, np.float32)
        opt.step()
    assert opt.state[p]["momentum_buffer"].nbytes == 1000
    np.testing.assert_allclose(decode(opt.state[p]["momentum_buffer"]), 2, rtol=0.13)


@whole
def factored_rule(g, p, row, column, lr, w):
    row = row + w * (np.mean(g * g, -1, keepdims=True) - row)
    column = column + w * (np.mean(g * g, -2, keepdims=True) - column)
    return p - lr * g / np.sqrt(row * column / np.mean(row) + 1e-12), row, column


@fused
def plain_rule(g, p, v, lr, w):
    v = v + w * (g * g - v)
    return p - lr * g / (sqrt(v) + 1e-6), v


class Factored(Optimizer):
    "Second moments by row and column for matrices, one by one for the rest, as Adafactor keeps them."
    def __init__(self, params, lr=0.1): super().__init__(params, dict(lr=lr, maximize=False))
    def parts(self, group):
        matrices = [p for p in group["params"] if p.data.ndim == 2]
        others = [p for p in group["params"] if p.data.ndim != 2]
        return [(factored_rule, {"row": lambda s: (s[0], 1), "column": lambda s: (1, s[1])}, matrices),
                (plain_rule, ("square",), others)]
    def coefficients(self, group, t): return dict(lr=group["lr"], w=1 / t)


def test_parts_with_rules_and_shapes_of_their_own(either_look):
    params = parameters((4, 6), (5,), (3, 2), ())
    start = [p.data.copy() for p in params]
    opt = Factored(params)
    give_grads(params)
    opt.step()
    assert [{k: np.shape(v) for k, v in opt.state[p].items()} for p in params] == [
        {"row": (4, 1), "column": (1, 6), "step": ()}, {"square": (5,), "step": ()},
        {"row": (3, 1), "column": (1, 2), "step": ()}, {"square": (), "step": ()}]
    for p, s in zip(params[1::2], start[1::2]): np.testing.assert_allclose(p.data, s - 0.1 * np.sign(p.grad), rtol=1e-4)
    twins, saved = clone(params), opt.state_dict()
    other = Factored(twins)
    other.load_state_dict(saved)
    train(opt, params, 3, 1), train(other, twins, 3, 1)
    assert_twins(opt, params, other, twins)
    saved["state"][0]["row"] = np.zeros((6, 1))
    with pytest.raises(ValueError, match=r"row of shape \(6, 1\) for parameter 0 of group 0, which needs \(4, 1\)"): other.load_state_dict(saved)


def test_a_failing_rule_of_whole_arrays_changes_nothing(unchanged, either_look):
    @whole
    def failing(g, p, lr): raise ZeroDivisionError
    class Failing(Factored):
        def parts(self, group): return [(plain_rule, ("square",), group["params"][:1]), (failing, (), group["params"][1:])]
        def coefficients(self, group, t): return dict(lr=0.1, w=0.5) if t else {}
    params = parameters((4,), (2, 2))
    opt = Failing(params)
    give_grads(params)
    with unchanged(opt), pytest.raises(TypeError): opt.step()  # it does not take w
    Failing.coefficients = lambda self, group, t: dict(lr=0.1)
    with unchanged(opt), pytest.raises(TypeError, match="plain_rule takes the coefficients"): opt.step()


@pytest.mark.parametrize("first", [True, False])
def test_whole_and_fused_rules_see_the_same_moment(first, either_look):
    "A gradient that is another parameter's memory: both parts must see the values from before the step."
    @whole
    def descent(g, p, lr): return (p - lr * g,)
    @fused
    def descend(g, p, lr): return (p - lr * g,)
    class Both(Optimizer):
        def __init__(self, params): super().__init__(params, dict(lr=0.5))
        def parts(self, group):
            rules = (descent, descend) if first else (descend, descent)
            return [(rule, (), [p]) for rule, p in zip(rules, group["params"])]
        def coefficients(self, group, t): return dict(lr=group["lr"])
    class Free:
        def __init__(self, data): self.data, self.grad = data, None
    a, b = Free(np.array([1.0, 2.0])), Free(np.array([10.0, 20.0]))
    a.grad, b.grad = b.data, a.data
    Both([a, b]).step()
    assert a.data.tolist() == [-4, -8] and b.data.tolist() == [9.5, 19]
    a.data = b.data
    a.grad = b.grad = np.ones(2)
    with pytest.raises(ValueError, match="share memory"): Both([a, b]).step()


def test_a_rule_runs_on_other_array_libraries():
    xp = pytest.importorskip("array_api_strict")
    arrays = [np.abs(normal((5,), seed=k)) for k in range(4)]
    values = dict(w1=0.1, beta2=0.999, w2=0.001, step_size=0.01, eps=1e-8, inv_sqrt_bc2=1.5)
    expected = adam_rule(*arrays, *values.values())
    got = adam_rule(*map(xp.asarray, arrays), *values.values())
    for e, a in zip(expected, got):
        assert type(a).__module__.startswith("array_api_strict")
        assert same(np.asarray(a), e)


# ---- hyperparameters are declared once

def test_a_range_is_declared_in_the_signature_or_by_name():
    class Declared(Optimizer):
        def __init__(self, params, lr: float = 0.1, rho: Annotated[float, Range("rho value", below=1)] = 0.9,
                     etas: Annotated[tuple, Range("eta", low=0.5, count=2)] = (0.5, 1.2), eps: Annotated[float, Range("eps", above=0)] = 1e-8):
            super().__init__(params, dict(lr=lr, rho=rho, etas=etas, eps=eps))
    declared = hyperparameters(Declared)
    assert list(declared) == ["lr", "rho", "etas", "eps"] and declared["rho"].default == 0.9 and declared["lr"].range.label == "learning rate"
    Declared(parameters())
    for wrong, message in [(dict(lr=-1), "Invalid learning rate: -1"), (dict(rho=1), "Invalid rho value: 1"), (dict(rho=-0.1), "Invalid rho value: -0.1"),
                           (dict(etas=(0.4, 1)), "Invalid eta at index 0: 0.4"), (dict(etas=0.5), "Invalid etas: 0.5, need a pair of numbers"),
                           (dict(eps=0), "Invalid eps: 0"), (dict(eps=nan), "Invalid eps: nan")]:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"): Declared(parameters(), **wrong)
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"): Declared([{"params": parameters(), **wrong}])


def test_every_optimizer_shows_one_base_and_declares_what_it_takes(optimizer):
    assert optimizer.__mro__[-2] is Optimizer and Optimizer.__bases__ == (object,)
    assert set(optimizer(parameters()).defaults) - {"decoupled_weight_decay"} <= set(hyperparameters(optimizer)) | {"decoupled_weight_decay"}
    assert hyperparameters(optimizer)["lr"].range.label.lower() == "learning rate"


def test_two_groups_that_are_both_out_of_step_keep_their_own_settings(case):
    "Each group needs two settings of its own: neither may take the place of the other's."
    params, twins = parameters((3,), (2,), (4,), (5,), dtype="f4"), parameters((3,), (2,), (4,), (5,), dtype="f4")
    opt = case([{"params": params[:2], "lr": 0.1}, {"params": params[2:], "lr": 0.001}])
    singles = [case([q], lr=0.1 if i < 2 else 0.001) for i, q in enumerate(twins)]
    for t in range(5):
        give_grads(params, t), give_grads(twins, t)
        if t % 2: params[0].grad = twins[0].grad = params[2].grad = twins[2].grad = None
        opt.step()
        for single in singles: single.step()
    for p, single, q in zip(params, singles, twins): assert_twins(opt, [p], single, [q])
