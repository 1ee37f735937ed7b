"""Gradient-based optimizers and learning-rate schedulers, derived, tested and plotted in notebooks."""
__version__ = "0.1.0"

from optim_nb import lr_scheduler, optimizers
from optim_nb.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from optim_nb.optimizers import *  # noqa: F403
from optim_nb.tensor import Parameter, SparseGrad, Tensor, enable_grad, no_grad

__all__ = ["Optimizer", "Parameter", "SparseGrad", "Tensor", "enable_grad", "lr_scheduler", "no_grad",
           "register_optimizer_step_post_hook", "register_optimizer_step_pre_hook"]
__all__ += optimizers.__all__
