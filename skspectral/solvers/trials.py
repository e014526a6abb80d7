"""Networks pruned on trial, as far as a solver has to know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .problem import SelectionProblem


@dataclass(frozen=True)
class Trials:
    """What a solver needs to go by what pruned networks answer.

    Parameters
    ----------
    problems : dict of SelectionProblem
        The problems that several objectives pose, by name.
    reconstructions : tuple of str
        Kinds of reconstruction to try.
    run : callable
        Takes the kept nodes, ascending, a kind of reconstruction and a number. Runs the network
        pruned to these nodes over calibration sequences and gives the divergence of its answers
        from those of the dense one. When that looks like more than the number, it is run no
        further and the value is some estimate above the number.
    held_out : callable
        Takes nodes and a kind. Gives the divergence on sequences that ``run`` does not see; NaN
        where there are none.
    loss : callable, optional
        Takes nodes and a kind. Gives the relative loss of that reconstruction, for the report; if
        left out, the loss that the problem has of the nodes is told.
    share : float, default=1.0
        What part of its budget a solver should spend: that of one layer among several.

    Examples
    --------
    A network that answers the worse the more the lost nodes vary:

    >>> import numpy as np
    >>> from dataclasses import replace
    >>> from skspectral.solvers import ClosedLoopSolver, SelectionProblem, Trials
    >>> problem = SelectionProblem(np.diag([1.0, 3.0, 2.0]), np.eye(3), np.zeros(3))
    >>> def divergence(support, reconstruction, at_most=np.inf):
    ...     return problem.loss(support)
    >>> trials = Trials({"input": problem}, ("linear",), divergence, divergence)
    >>> ClosedLoopSolver().select(replace(problem, trials=trials), 2).support
    array([1, 2])
    """

    problems: Mapping[str, SelectionProblem]
    reconstructions: tuple[str, ...]
    run: Callable[[NDArray[np.intp], str, float], float]
    held_out: Callable[[NDArray[np.intp], str], float]
    loss: Callable[[NDArray[np.intp], str], float] | None = None
    share: float = 1.0
