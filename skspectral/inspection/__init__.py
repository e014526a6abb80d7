"""Displays of fitted pruners, in the style of scikit-learn."""

from .display import LayersDisplay
from .loss_path import LossPathDisplay
from .score_curve import ScoreCurveDisplay
from .spectrum import SpectrumDisplay
from .support import SupportDisplay
from .trajectory import TrajectoryDisplay

__all__ = [
    "LayersDisplay",
    "LossPathDisplay",
    "ScoreCurveDisplay",
    "SpectrumDisplay",
    "SupportDisplay",
    "TrajectoryDisplay",
]
