"""Smaller recurrent networks that answer the same: spectral pruning for scikit-learn."""

from .covariance import HiddenStateMoments
from .distillation import Distillation
from .drift import ErrorPropagation, error_propagation
from .estimators import RNNClassifier, RNNRegressor
from .finetune import FineTune
from .functional import prune
from .neuron_selection import NeuronSelectionPruner
from .objective import InformationLoss
from .pruner import SpectralRNNPruner
from .pruner_cv import SpectralRNNPrunerCV
from .saving import load_pruned, save_pruned
from .solvers import SOLVERS
from .versions import show_versions

__version__ = "0.1.0"

__all__ = [
    "SOLVERS",
    "Distillation",
    "ErrorPropagation",
    "FineTune",
    "HiddenStateMoments",
    "InformationLoss",
    "NeuronSelectionPruner",
    "RNNClassifier",
    "RNNRegressor",
    "SpectralRNNPruner",
    "SpectralRNNPrunerCV",
    "__version__",
    "error_propagation",
    "load_pruned",
    "prune",
    "save_pruned",
    "show_versions",
]
