"""Adagrad: state that is there from the beginning, the decay's first step, and what it shares with its family."""
import numpy as np, pytest
from conftest import give_grads, normal, parameters, same, train
from optim_nb import SGD, Adagrad, Parameter


def stepped(grads, start=1.0, **options):
    p = Parameter(np.full(np.shape(grads)[1:], start))
    opt = Adagrad([p], **options)
    for g in grads:
        p.grad = np.array(g)
        opt.step()
    return p.data, opt.state[p]


@pytest.mark.parametrize("bad, message", [
    (dict(lr=-1.0), "Invalid learning rate: -1.0"), (dict(lr_decay=-0.1), "Invalid lr_decay value: -0.1"),
    (dict(weight_decay=-0.1), "Invalid weight_decay value: -0.1"), (dict(eps=-1e-9), "Invalid epsilon value: -1e-09"),
    (dict(initial_accumulator_value=-0.5), "Invalid initial_accumulator_value value: -0.5")])
def test_torchs_messages(bad, message):
    with pytest.raises(ValueError) as error: Adagrad(parameters(), **bad)
    assert str(error.value) == message
    opt = Adagrad(parameters())
    with pytest.raises(ValueError) as error: opt.add_param_group({"params": parameters(), **bad})
    assert str(error.value) == message and len(opt.param_groups) == 1 and len(opt.state) == 2


@pytest.mark.parametrize("dtype, value", [("f4", 0.25), ("f8", 0.25), ("f2", 0.25), ("c8", 0.25 + 0.25j), ("c16", 0.25 + 0.25j)])
def test_state_is_there_before_the_first_step(dtype, value):
    """As torch has it: in the state and in a state dict, zero steps, the sum at its first value, laid out like the parameter."""
    p = Parameter(np.asfortranarray(normal((3, 2), dtype)))
    opt = Adagrad([p], initial_accumulator_value=0.25)
    assert set(opt.state[p]) == {"step", "sum"} and opt.state[p]["step"] == 0
    assert opt.state[p]["sum"].dtype == np.dtype({"f2": "f4"}.get(dtype, dtype)) and (opt.state[p]["sum"] == value).all()
    assert opt.state[p]["sum"].flags.f_contiguous
    assert same(opt.state_dict()["state"][0], dict(opt.state[p]))


def test_state_of_a_group_that_joins():
    """At once; and its first value is the optimizer's, not the group's: torch reads it from the defaults."""
    p, q = parameters()
    opt = Adagrad([p], initial_accumulator_value=0.25)
    train(opt, [p], 3)
    opt.add_param_group(dict(params=[q], initial_accumulator_value=9.0))
    assert opt.state[q]["step"] == 0 and (opt.state[q]["sum"] == 0.25).all() and opt.state[p]["step"] == 3
    assert opt.param_groups[1]["initial_accumulator_value"] == 9.0


def test_a_group_refused_leaves_no_state():
    p, q = parameters()
    opt = Adagrad([p])
    with pytest.raises(ValueError): opt.add_param_group(dict(params=[q], lr=-1.0))
    with pytest.raises(ValueError): opt.add_param_group(dict(params=[q, p]))
    assert list(opt.state) == [p] and len(opt.param_groups) == 1


def test_state_that_was_deleted_starts_anew():
    p, = parameters((3,))
    opt = Adagrad([p], initial_accumulator_value=0.25)
    train(opt, [p], 3)
    del opt.state[p]
    give_grads([p])
    opt.step()
    assert opt.state[p]["step"] == 1
    np.testing.assert_allclose(opt.state[p]["sum"], 0.25 + p.grad**2, rtol=1e-15)


def test_loads_a_state_dict_that_lacks_a_parameter():
    p, q = parameters()
    opt = Adagrad([p, q], initial_accumulator_value=0.25)
    saved = opt.state_dict()
    del saved["state"][1]
    opt.load_state_dict(saved)
    train(opt, [p, q], 1)
    np.testing.assert_allclose(opt.state[q]["sum"], 0.25 + q.grad**2, rtol=1e-15)


def test_decay_begins_with_the_second_step():
    """η / (1 + (t - 1) δ): the first step is whole. And ε stands outside the root."""
    grads = np.full((3, 1), 2.0)
    data, state = stepped(grads, lr=0.1, lr_decay=0.5, eps=0.3)
    expected = 1 - sum(0.1 / (1 + 0.5 * t) * 2 / (np.sqrt(4.0 * (t + 1)) + 0.3) for t in range(3))
    np.testing.assert_allclose(data, expected, rtol=1e-14)
    assert state["sum"] == 12 and state["step"] == 3


def test_zero_gradients():
    """The first of all may be 0: 0 / (0 + ε) is no step, but NaN where ε is 0, as in torch."""
    assert stepped(np.zeros((2, 1)), lr=0.1)[0] == 1
    with np.errstate(invalid="ignore"): assert np.isnan(stepped(np.zeros((1, 1)), lr=0.1, eps=0)[0])


def test_float16_zero_gradient():
    """torch computes ε in float16, where it is 0, and gets NaN."""
    p = Parameter(np.ones(2, np.float16))
    opt = Adagrad([p])
    p.grad = np.zeros(2, np.float16)
    opt.step()
    assert (p.data == 1).all()


def test_a_large_first_value_makes_it_sgd():
    """With τ far above all squared gradients the divisor is √τ, and the step is SGD's with lr / √τ."""
    a, b = parameters((50,)), parameters((50,))
    ada, sgd = Adagrad(a, lr=0.1 * 2.0**40, initial_accumulator_value=2.0**80, eps=0), SGD(b, lr=0.1)
    train(ada, a, 5), train(sgd, b, 5)
    np.testing.assert_allclose(a[0].data, b[0].data, rtol=1e-14)


def test_lr_and_decay_may_change_between_steps():
    p, q = parameters((4,)), parameters((4,))
    opt, late = Adagrad(p, lr=0.1, lr_decay=0.5), Adagrad(q, lr=7.0)
    train(opt, p, 1)
    late.load_state_dict(opt.state_dict())
    q[0].data[...] = p[0].data
    late.param_groups[0].update(lr=0.1, lr_decay=0.5)
    train(opt, p, 3, 1), train(late, q, 3, 1)
    assert same(p[0].data, q[0].data)
