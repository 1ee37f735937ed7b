"""Gradient-based optimizers and learning-rate schedulers, derived, tested and plotted in notebooks."""
__version__ = "0.1.0"
