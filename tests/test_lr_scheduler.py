"""What every scheduler promises, shown on StepLR, and StepLR's own values at its corners."""
import copy, pickle, warnings
import numpy as np, pytest
from conftest import give_grads, parameters, same
from optim_nb import Adam, SGD
from optim_nb.lr_scheduler import LRScheduler, StepLR


def run(opt, schedulers, epochs):
    "The learning rates that the steps of these epochs used."
    used = []
    for epoch in epochs:
        params = [p for g in opt.param_groups for p in g["params"]]
        give_grads(params, epoch)
        used.append([g["lr"] for g in opt.param_groups])
        opt.step()
        for s in schedulers: s.step()
    return used


@pytest.mark.parametrize("step_size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1, 2.0, 0])
def test_recursion_equals_closed_form(step_size, gamma):
    params = parameters((2,), (2,))
    opt = SGD([{"params": params[0]}, {"params": params[1], "lr": 3.0}], lr=0.7)
    scheduler = StepLR(opt, step_size, gamma)
    for t in range(22):
        assert scheduler.last_epoch == t
        np.testing.assert_allclose(scheduler.get_last_lr(), scheduler._get_closed_form_lr(), rtol=1e-13)
        np.testing.assert_allclose(scheduler.get_last_lr(), [0.7 * gamma ** (t // step_size), 3 * gamma ** (t // step_size)],
                                   rtol=1e-13)
        assert scheduler.get_last_lr() == [g["lr"] for g in opt.param_groups]
        opt.step()
        scheduler.step()


def test_corners():
    opt = SGD(parameters(), lr=1.0)
    scheduler = StepLR(opt, step_size=3, gamma=0.5)
    assert [lr for lr, in run(opt, [scheduler], range(10))] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    opt = SGD(parameters(), lr=1.0)
    assert StepLR(opt, 1).gamma == 0.1
    assert opt.param_groups[0]["lr"] == opt.param_groups[0]["initial_lr"] == 1.0


def test_the_steps_really_shrink(case):
    p, q = parameters((2,)), parameters((2,))
    no_decay = {"weight_decay": 0} if "weight_decay" in case(parameters()).defaults else {}
    opt, plain = case(p, **no_decay), case(q, **no_decay)
    scheduler = StepLR(opt, 1, gamma=0)
    give_grads(p), give_grads(q)
    opt.step(), plain.step()
    assert same(p[0].data, q[0].data)
    scheduler.step()
    for _ in range(case.lag): opt.step(), plain.step()
    before, beside = p[0].data.copy(), q[0].data.copy()
    opt.step(), plain.step()
    assert same(p[0].data, before) != ("lr" in case.spent) and not same(q[0].data, beside)


def test_manual_changes_are_kept():
    opt = SGD(parameters(), lr=1.0)
    scheduler = StepLR(opt, 2, 0.5)
    run(opt, [scheduler], range(1))
    opt.param_groups[0]["lr"] = 8.0
    assert [lr for lr, in run(opt, [scheduler], range(1, 5))] == [8, 4, 4, 2]


def test_two_schedulers_multiply():
    opt = SGD(parameters(), lr=1.0)
    used = run(opt, [StepLR(opt, 2, 0.5), StepLR(opt, 3, 0.1)], range(7))
    np.testing.assert_allclose(np.ravel(used), [1, 1, 0.5, 0.05, 0.025, 0.025, 0.00125], rtol=1e-13)


def test_wrong_order_warns_once():
    opt = SGD(parameters(), lr=1.0)
    scheduler = StepLR(opt, 5)
    with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`") as seen:
        scheduler.step()
        scheduler.step()
    assert len(seen) == 1 and seen[0].filename == __file__


def test_right_order_does_not_warn():
    opt = SGD(parameters(), lr=1.0)
    run(opt, [StepLR(opt, 5), StepLR(opt, 2)], range(3))  # a warning would be an error
    StepLR(opt, 5).step()  # the optimizer has stepped before


def test_a_failed_step_does_not_count_as_a_step():
    params = parameters()
    opt = SGD(params, lr=1.0)
    scheduler = StepLR(opt, 5)
    def closure(): raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError): opt.step(closure)
    with pytest.warns(UserWarning, match="Detected call"): scheduler.step()


@pytest.mark.parametrize("thing", [None, 3, "SGD", SGD, dict(lr=1)])
def test_needs_an_optimizer(thing):
    with pytest.raises(TypeError, match=f"^{type(thing).__name__} is not an Optimizer$"): StepLR(thing, 1)


def test_initial_lr_is_needed_to_resume(unchanged):
    params = parameters((2,), (2,))
    opt = SGD([{"params": params[0], "initial_lr": 0.1}, {"params": params[1]}], lr=1.0)
    with unchanged(opt), pytest.raises(KeyError) as error: StepLR(opt, 2, last_epoch=3)
    assert "param 'initial_lr' is not specified in param_groups[1] when resuming scheduler with last_epoch >= 0" in str(error.value)


def test_last_epoch_is_the_last_epoch_done():
    opt = SGD([dict(params=parameters(), lr=0.5, initial_lr=1.0)], lr=1.0)  # epochs 0-2 are done, at lr 1, 1, 0.5
    scheduler = StepLR(opt, 2, 0.5, last_epoch=2)
    assert scheduler.last_epoch == 3 and scheduler.base_lrs == [1.0] and scheduler.get_last_lr() == [0.5]
    assert [lr for lr, in run(opt, [scheduler], range(3, 6))] == [0.5, 0.25, 0.25]


def test_get_last_lr_is_a_copy():
    opt = SGD(parameters(), lr=1.0)
    scheduler = StepLR(opt, 2)
    scheduler.get_last_lr()[0] = 99
    assert scheduler.get_last_lr() == [1.0] and opt.param_groups[0]["lr"] == 1.0


def test_state_dict_is_a_copy_without_the_optimizer():
    opt = SGD(parameters(), lr=1.0)
    scheduler = StepLR(opt, 2)
    saved = scheduler.state_dict()
    assert "optimizer" not in saved
    assert {"step_size": 2, "gamma": 0.1, "base_lrs": [1.0], "last_epoch": 0, "_step_count": 1, "_last_lr": [1.0]}.items() \
        <= saved.items()
    saved["base_lrs"][0] = saved["_last_lr"][0] = 99
    assert scheduler.base_lrs == [1.0] and scheduler.get_last_lr() == [1.0]
    scheduler.load_state_dict(saved)
    saved["_last_lr"][0] = 98
    assert scheduler.get_last_lr() == [99]


ORDERS = {
    "both built, optimizer first": ("opt", "sched", "load opt", "load sched"),
    "both built, scheduler first": ("opt", "sched", "load sched", "load opt"),
    "optimizer loaded before the scheduler is built": ("opt", "load opt", "sched", "load sched"),
}


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_resume_in_the_middle(order, at):
    def build(params): return Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.3}], lr=0.1)
    params = parameters()
    opt = build(params)
    scheduler = StepLR(opt, 2, 0.5)
    run(opt, [scheduler], range(at))
    saved = pickle.dumps((opt.state_dict(), scheduler.state_dict(), [p.data for p in params]))
    expected = run(opt, [scheduler], range(at, 8))
    opt_state, scheduler_state, arrays = pickle.loads(saved)
    again = parameters()
    for p, a in zip(again, arrays): p.data = a
    for action in order:
        match action:
            case "opt": fresh = build(again)
            case "sched": resumed = StepLR(fresh, 99, 0.9)
            case "load opt": fresh.load_state_dict(opt_state)
            case "load sched": resumed.load_state_dict(scheduler_state)
    assert run(fresh, [resumed], range(at, 8)) == expected
    assert resumed.get_last_lr() == scheduler.get_last_lr() == [g["lr"] for g in fresh.param_groups]
    assert all(same(p.data, q.data) for p, q in zip(params, again))


def test_group_added_later():
    params = parameters((2,), (2,))
    opt = SGD(params[:1], lr=1.0)
    scheduler = StepLR(opt, 2, 0.5)
    run(opt, [scheduler], range(1))
    opt.add_param_group({"params": params[1:], "lr": 8.0})
    assert run(opt, [scheduler], range(1, 6)) == [[1, 8], [0.5, 4], [0.5, 4], [0.25, 2], [0.25, 2]]
    assert scheduler.get_last_lr() == [0.125, 1.0]
    saved = copy.deepcopy((opt.state_dict(), scheduler.state_dict()))
    fresh = SGD([{"params": params[:1]}, {"params": params[1:]}], lr=5.0)
    resumed = StepLR(fresh, 2, 0.5)
    fresh.load_state_dict(saved[0]), resumed.load_state_dict(saved[1])
    assert run(fresh, [resumed], range(6, 10)) == run(opt, [scheduler], range(6, 10))


def test_deepcopy_of_optimizer_and_scheduler_together():
    params = parameters()
    opt = Adam(params, lr=0.1)
    scheduler = StepLR(opt, 2, 0.5)
    run(opt, [scheduler], range(3))
    twin, twin_scheduler = copy.deepcopy((opt, scheduler))
    assert twin_scheduler.optimizer is twin
    assert run(twin, [twin_scheduler], range(3, 7)) == run(opt, [scheduler], range(3, 7))
    assert all(same(p.data, q.data) for p, q in zip(params, twin.param_groups[0]["params"]))


def test_a_scheduler_of_ones_own():
    class Inverse(LRScheduler):
        def get_lr(self): return [lr / (1 + self.last_epoch) for lr in self.base_lrs]
    opt = SGD(parameters(), lr=6.0)
    scheduler = Inverse(opt)
    assert [lr for lr, in run(opt, [scheduler], range(4))] == [6, 3, 2, 1.5]
    with pytest.raises(NotImplementedError): LRScheduler(SGD(parameters(), lr=1.0))


def test_a_failing_get_lr_changes_nothing(unchanged):
    class Broken(LRScheduler):
        def get_lr(self):
            if self.last_epoch == 2: raise ZeroDivisionError
            return [g["lr"] / 2 for g in self.optimizer.param_groups]
    opt = SGD(parameters(), lr=1.0)
    scheduler = Broken(opt)
    run(opt, [scheduler], range(1))
    before = scheduler.state_dict()
    with unchanged(opt), pytest.raises(ZeroDivisionError): scheduler.step()
    assert scheduler.state_dict() == before


def test_step_size_must_be_positive():
    with pytest.raises(ValueError, match="step_size"): StepLR(SGD(parameters(), lr=1.0), 0)


def test_epochs_may_be_given_by_number():
    "torch's `step(epoch)`: jump to the closed form."
    opt = SGD(parameters(), lr=1.0)
    scheduler = StepLR(opt, 2, 0.5)
    opt.step()
    with warnings.catch_warnings(record=True):  # torch deprecates it
        warnings.simplefilter("always")
        scheduler.step(7)
    assert scheduler.last_epoch == 7 and scheduler.get_last_lr() == [0.125]


def test_every_optimizer_takes_a_scheduler(case):
    opt = case(parameters())
    lr = opt.param_groups[0]["lr"]
    assert [r for r, in run(opt, [StepLR(opt, 1, 0.5)], range(3))] == [lr, lr / 2, lr / 4]


def test_a_failing_get_lr_leaves_a_late_group_out_as_it_was():
    class Failing(LRScheduler):
        broken = False
        def get_lr(self):
            if self.broken: raise ZeroDivisionError
            return [g["lr"] for g in self.optimizer.param_groups]
    opt = SGD(parameters(), lr=0.1)
    scheduler = Failing(opt)
    opt.step()
    opt.add_param_group({"params": parameters((2,)), "lr": 0.5})
    scheduler.broken = True
    for _ in range(2):
        with pytest.raises(ZeroDivisionError): scheduler.step()
        assert scheduler.base_lrs == [0.1] and scheduler.last_epoch == 0 and "initial_lr" not in opt.param_groups[1]
    scheduler.broken = False
    scheduler.step()
    assert scheduler.base_lrs == [0.1, 0.5] and scheduler.last_epoch == 1 and opt.param_groups[1]["initial_lr"] == 0.5
