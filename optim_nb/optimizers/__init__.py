"""One module per optimizer, each written in the notebook of the same name."""
from optim_nb.optimizers.adadelta import Adadelta
from optim_nb.optimizers.adagrad import Adagrad
from optim_nb.optimizers.adam import Adam
from optim_nb.optimizers.adamw import AdamW
from optim_nb.optimizers.sgd import SGD

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW"]
