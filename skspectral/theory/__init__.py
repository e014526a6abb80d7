"""A-priori quantities: degrees of freedom, leverage scores and bounds."""

from .generalization import generalization_gap
from .guarantee import Guarantee, certified_lam, sufficient_nodes
from .propagation import propagated_errors
from .spectrum import degrees_of_freedom, lam_of, leverage_scores

__all__ = [
    "Guarantee",
    "certified_lam",
    "degrees_of_freedom",
    "generalization_gap",
    "lam_of",
    "leverage_scores",
    "propagated_errors",
    "sufficient_nodes",
]
