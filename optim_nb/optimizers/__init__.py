"""One module per optimizer, each written in the notebook of the same name."""
from optim_nb.optimizers.adadelta import Adadelta
from optim_nb.optimizers.adafactor import Adafactor
from optim_nb.optimizers.adagrad import Adagrad
from optim_nb.optimizers.adam import Adam
from optim_nb.optimizers.adamax import Adamax
from optim_nb.optimizers.adamw import AdamW
from optim_nb.optimizers.asgd import ASGD
from optim_nb.optimizers.lbfgs import LBFGS
from optim_nb.optimizers.muon import Muon
from optim_nb.optimizers.nadam import NAdam
from optim_nb.optimizers.radam import RAdam
from optim_nb.optimizers.rmsprop import RMSprop
from optim_nb.optimizers.rprop import Rprop
from optim_nb.optimizers.sgd import SGD
from optim_nb.optimizers.sparse_adam import SparseAdam

__all__ = ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop",
           "SparseAdam", "LBFGS", "Adafactor", "Muon"]
