"""Optimizers and schedulers in user code, which type checkers must accept as it stands (test_typing.py) and which must run."""
from collections.abc import Iterable
from typing import Any, assert_type

import numpy as np
from optim_nb import SGD, Adam, AdamW, Optimizer, Parameter, Tensor, lr_scheduler
from optim_nb.kernels import fused, sign
from optim_nb.lr_scheduler import StepLR
from optim_nb.optimizer import RemovableHandle

w, b, x = Parameter(np.zeros((3, 2))), Parameter(np.zeros(2)), np.ones((4, 3))


# ---- groups, named parameters, closures, saving

optimizer = Adam([w, b], lr=0.1, betas=(0.9, 0.99))
SGD({"params": [p], "lr": 0.1} for p in (w, b))
SGD([{"params": [w]}, {"params": [b], "weight_decay": 0.0}], lr=0.1, momentum=0.9)
AdamW([("w", w), ("b", b)], lr=0.1, amsgrad=True)
for group in optimizer.param_groups: group["lr"] *= 0.5


def closure() -> Tensor:
    optimizer.zero_grad()
    loss = ((x @ w + b) ** 2).mean()
    loss.backward()
    return loss


last = optimizer.step(closure)
optimizer.step()
saved = optimizer.state_dict()
optimizer.load_state_dict(saved)
print(optimizer.state[w]["exp_avg"], optimizer.defaults["lr"], last)
handle = optimizer.register_step_post_hook(lambda optimizer, args, kwargs: None)
assert_type(handle, RemovableHandle)
handle.remove()


# ---- schedulers

scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
for _ in range(3):
    optimizer.step(closure)
    scheduler.step()
rates: list[float] = scheduler.get_last_lr()
scheduler.load_state_dict(scheduler.state_dict())
base: lr_scheduler.LRScheduler = scheduler


# ---- an optimizer of one's own

@fused
def signum_rule(g: Any, p: Any, m: Any, lr: Any, w: Any) -> Any:
    m = m + w * (g - m)
    p = p - lr * sign(m)
    return p, m


class Signum(Optimizer):
    rule, buffers = signum_rule, ("momentum_buffer",)

    def __init__(self, params: Iterable[Parameter], lr: float = 1e-3, beta: float = 0.9) -> None:
        super().__init__(params, dict(lr=lr, beta=beta))

    def coefficients(self, group: dict[str, Any], t: int) -> dict[str, float]:
        return dict(lr=group["lr"], w=1 - group["beta"])


own: Optimizer = Signum([w, b], lr=0.1)
own.step(closure)
print(rates, base.get_last_lr(), own)
