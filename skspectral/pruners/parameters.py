"""Checks of the pruner's parameters, and objects from their names."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend

from ..calibration.moments import HiddenStateMoments
from ..selection.objective import OBJECTIVES, Objective
from ..solvers import SOLVERS, Solver
from ..utils.doc_hints import refer_to_docs
from ..utils.validation import check_choice, is_number


@refer_to_docs("Large data and large models")
def check_n_jobs(n_jobs: Any) -> None:
    """Refuse what is no number of processes."""
    if n_jobs is not None and not (is_number(n_jobs, Integral) and n_jobs != 0):
        error = ValueError if is_number(n_jobs, Integral) else TypeError
        raise error(f"n_jobs must be None or an int other than 0; got {n_jobs!r}.")
    backend = get_active_backend()[0]
    if effective_n_jobs(n_jobs) > 1 and not backend.supports_return_generator:
        raise ValueError(
            f"n_jobs={n_jobs!r} runs on {type(backend).__name__}, a backend of joblib that does "
            "not give results one by one, so that those of all batches would be held at once; "
            "give n_jobs=1, or another backend such as joblib.parallel_config('loky')."
        )


@refer_to_docs("How many nodes")
def check_tol(tol: Any) -> None:
    """Refuse a tolerance that is no relative loss."""
    if tol is not None and not (is_number(tol) and 0.0 <= tol < 1.0):
        raise ValueError(f"tol must be None or a relative information loss in [0, 1); got {tol!r}.")


@refer_to_docs("How many nodes")
def check_max_divergence(most: Any) -> None:
    """Refuse what no divergence can be compared with."""
    if most is not None and not (is_number(most) and 0.0 < most < np.inf):
        raise ValueError(f"max_divergence must be None or a number above 0; got {most!r}.")


@refer_to_docs("How many nodes")
def count_nodes(m: Any, n_nodes: int | None = None, name: str = "m") -> int:
    """Return the number of nodes that m stands for; without ``n_nodes``, only check m."""
    most = "the hidden size" if n_nodes is None else f"{n_nodes}, the hidden size"
    rule = f"{name} must be an int from 1 to {most}, or a float in (0, 1]; got {m!r}."
    if not is_number(m):
        raise TypeError(rule)
    if is_number(m, Integral):
        if m < 1 or (n_nodes is not None and m > n_nodes):
            raise ValueError(rule)
        return int(m)
    if not 0.0 < m <= 1.0:
        raise ValueError(f"{rule} For a number of nodes give an int." if m > 1.0 else rule)
    return max(1, round(m * (n_nodes or 0)))


@refer_to_docs("Solvers and certificates")
def as_solver(solver: str | Solver, random_state: Any) -> Solver:
    """Return a solver, given by itself or by its name; the latter gets the seed."""
    if not isinstance(solver, str):
        return _instance("solver", solver, Solver, SOLVERS)
    check_choice("solver", solver, SOLVERS)
    made = SOLVERS[solver]()
    if "random_state" in made.get_params():
        made.set_params(random_state=random_state)
    return made


@refer_to_docs("Losses and reconstruction")
def as_objective(objective: str | Objective) -> Objective:
    """Return an objective, given by itself or by its name."""
    if not isinstance(objective, str):
        chosen: Objective = _instance("objective", objective, Objective, OBJECTIVES)
        chosen.check()
        return chosen
    check_choice("objective", objective, OBJECTIVES)
    return OBJECTIVES[objective]


@refer_to_docs("Large data and large models")
def as_moments(moments: Any, sizes: Mapping[str, int]) -> dict[str, HiddenStateMoments]:
    """Return moments by layer; none for None."""
    if moments is None:
        return {}
    single = isinstance(moments, HiddenStateMoments) and len(sizes) == 1
    found = dict.fromkeys(sizes, moments) if single else moments
    values = found.values() if isinstance(found, Mapping) else [None]
    if not all(isinstance(value, HiddenStateMoments) for value in values):
        raise TypeError(
            "moments must be a HiddenStateMoments or, of several layers, a dict of them by the "
            f"names {sorted(sizes)}; got {moments!r}."
        )
    given = {name: each.n_nodes for name, each in found.items()}
    if not given.items() <= dict(sizes).items():
        raise ValueError(
            f"moments must be of layers of the network, whose nodes are {dict(sizes)}; got moments "
            f"of {given}."
        )
    return dict(found)


def _instance(name: str, value: Any, kind: type, choices: Mapping[str, Any]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be one of {', '.join(sorted(choices))} or an instance of "
            f"{kind.__name__}; got {value!r}."
        )
    return value
