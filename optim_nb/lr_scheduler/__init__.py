"""One module per learning-rate scheduler, each written in the notebook of the same name."""
from optim_nb.lr_scheduler.base import LRScheduler
from optim_nb.lr_scheduler.step import StepLR

__all__ = ["LRScheduler", "StepLR"]
