"""Spectral pruning of recurrent networks as scikit-learn estimators."""

from .calibration.moments import HiddenStateMoments
from .export.export_onnx import export_onnx
from .export.export_torch import export_torch
from .inspection.error_propagation import ErrorPropagation, error_propagation
from .pruners.functional import prune
from .pruners.neuron_selection import NeuronSelectionPruner
from .pruners.spectral import SpectralRNNPruner
from .pruners.spectral_cv import SpectralRNNPrunerCV
from .rnn.serialization import load_pruned, save_pruned
from .selection.objective import InformationLoss, Objective
from .solvers import SOLVERS
from .training.distillation import Distillation
from .training.finetune import FineTune
from .training.rnn_estimators import RNNClassifier, RNNRegressor
from .utils.show_versions import show_versions

__version__ = "0.1.0"

__all__ = [
    "SOLVERS",
    "Distillation",
    "ErrorPropagation",
    "FineTune",
    "HiddenStateMoments",
    "InformationLoss",
    "NeuronSelectionPruner",
    "Objective",
    "RNNClassifier",
    "RNNRegressor",
    "SpectralRNNPruner",
    "SpectralRNNPrunerCV",
    "__version__",
    "error_propagation",
    "export_onnx",
    "export_torch",
    "load_pruned",
    "prune",
    "save_pruned",
    "show_versions",
]
