"""Spectral pruner with cross-validation over m."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed

from ..data.batches import Batches
from ..data.sequences import Sequences
from ..rnn.losses.likelihood import Family
from ..selection.objective import Objective
from ..selection.reconstruction import Kind
from ..solvers import Solver
from ..training.distillation import Distillation
from ..training.finetune import FineTune, as_finetune
from ..utils.validation import check_choice, is_number
from .allocation import check_nodes
from .cross_validation import best_index, fold_scores, tabulate
from .delegation import check_targets
from .dense_network import default_estimator, planned_size
from .options import Allocation, ObjectiveName, Pooling, SolverName, StateSize
from .spectral import SpectralRNNPruner


class SpectralRNNPrunerCV(SpectralRNNPruner):
    """Spectral pruning to a number of nodes chosen by cross-validation.

    In every fold the network is trained once (unless it is trained already), run once over the
    training sequences, and pruned to each of ``ms`` nodes. The best number is then used on
    all sequences, and the result is a :class:`SpectralRNNPruner` in everything else.

    Parameters
    ----------
    estimator : nn.Module, estimator or None, default=None
        What to prune, as in :class:`SpectralRNNPruner`. What is trained already is not
        trained again: if it was trained on X, its scores are those on sequences it knows.
    ms : sequence of int or float, default=(0.125, 0.25, 0.5, 1.0)
        Numbers of nodes to try, each a number or a fraction of the layer in (0, 1].
    cv : int, splitter, iterable or None, default=None
        How X is split: the number of folds (None is 5), stratified for a classifier; a
        splitter of scikit-learn; or pairs of training and test indices.
    scoring : str, callable or None, default=None
        The score to maximize: a name that scikit-learn knows, or a function of estimator, X
        and y. None is that of ``score``; around a torch module, the part of the objective
        that is kept on the test sequences. That part grows with m, so ask for one standard
        error there.
    one_standard_error : bool, default=False
        Choose the fewest nodes whose mean score is within one standard error of the best.
    allocation : {"uniform", "global"}, default="uniform"
        Whether each of ``ms`` counts the nodes of each layer, or of all layers together.
    tol : float or None, default=None
        Keep the fewest nodes whose relative loss is at most this; m is then the most.
    solver : str or Solver, default="exchange"
        How nodes are chosen: a key of ``SOLVERS`` or an instance.
    objective : str or Objective, default="combined"
        The loss to keep small, as in :class:`SpectralRNNPruner`.
    reconstruction : {"linear", "affine", "none"}, default="linear"
        How the lost nodes are rebuilt from the kept ones; ``"none"`` deletes them.
    likelihood : {"auto", "categorical", "bernoulli", "gaussian"}, default="auto"
        Likelihood of the outputs.
    trajectory_fit : int, default=300
        Training steps for each layer by which it is fitted to the states of the dense one, after
        each pruning.
    n_refit : int, default=2048
        On how many sequences readers are fitted to the states that the pruned network reaches.
    distill : int or Distillation, default=0
        Epochs of label-free distillation after each pruning.
    finetune : int, FineTune or None, default=None
        Epochs of training on the targets after each pruning.
    state_size : {"pruned", "dense"}, default="pruned"
        Size of the last states that ``forward`` returns: that of the kept nodes, or of all nodes.
    output : {"last", "mean", "sequence"}, default="last"
        What ``transform`` gives.
    batch_size : int, default=256
        Most sequences in one forward pass.
    device : str, torch.device or None, default=None
        Where the network runs; None leaves it where it is.
    memory : str, path, joblib.Memory or None, default=None
        Where trained networks and moments are kept from one fit to the next.
    n_jobs : int or None, default=None
        Folds that run at the same time, and calibration batches of the fit to all sequences.
    random_state : int, RandomState or None, default=None
        Seed of the training of ``estimator=None`` and of solvers that draw.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        Named as in ``GridSearchCV``, an entry for each of ``ms``: ``param_m``,
        ``split0_test_score`` and so on for every fold, ``mean_test_score``,
        ``std_test_score`` and ``rank_test_score``.
    best_index_ : int
        Which of ``ms`` was chosen. Of equally good ones it is that of the fewest nodes.
    m_ : int
        Nodes kept, and so on: all that a fitted :class:`SpectralRNNPruner` has.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPrunerCV
    >>> _ = torch.manual_seed(0)
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPrunerCV(gru, ms=[4, 8, 16], cv=2).fit(torch.randn(30, 10, 3))
    >>> pruner.m_
    16
    >>> pruner.cv_results_["mean_test_score"].round(2)
    array([0.97, 0.99, 1.  ])
    """

    max_divergence = max_parameters = None  # scores choose the size

    def __init__(
        self,
        estimator: Any = None,
        ms: Sequence[int | float] | NDArray[Any] = (0.125, 0.25, 0.5, 1.0),
        *,
        cv: Any = None,
        scoring: str | Callable[..., float] | None = None,
        one_standard_error: bool = False,
        allocation: Allocation = "uniform",
        tol: float | None = None,
        solver: SolverName | Solver = "exchange",
        objective: ObjectiveName | Objective = "combined",
        reconstruction: Kind = "linear",
        likelihood: Family = "auto",
        trajectory_fit: int = 300,
        n_refit: int = 2048,
        distill: int | Distillation = 0,
        finetune: int | FineTune | None = None,
        state_size: StateSize = "pruned",
        output: Pooling = "last",
        batch_size: int = 256,
        device: str | torch.device | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.ms = ms
        self.cv = cv
        self.scoring = scoring
        self.one_standard_error = one_standard_error
        self.allocation = allocation
        self.tol = tol
        self.solver = solver
        self.objective = objective
        self.reconstruction = reconstruction
        self.likelihood = likelihood
        self.trajectory_fit = trajectory_fit
        self.n_refit = n_refit
        self.distill = distill
        self.finetune = finetune
        self.state_size = state_size
        self.output = output
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _choose_m(self, sequences: Sequences | Batches, X: Any, y: Any) -> Any:
        if isinstance(sequences, Batches):
            raise TypeError(
                f"X is of type {type(X).__name__}, which cannot be split into folds; give an array "
                "or a list of sequences."
            )
        if self.estimator is not None and not callable(self.scoring):
            check_targets(self, y)
        X_and_y = indexable(X, y)
        jobs = (
            delayed(fold_scores)(self._candidate(), self.ms, self.scoring, X_and_y, fold)
            for fold in self._folds(*X_and_y)
        )
        folds = Parallel(n_jobs=self.n_jobs)(jobs)
        self.cv_results_ = tabulate(self.ms, np.array([fold.scores for fold in folds]))
        n_nodes = folds[0].n_nodes
        self.best_index_ = best_index(self.cv_results_, n_nodes, self.one_standard_error)
        return self._chosen_m

    @property
    def _chosen_m(self) -> Any:
        return self.ms[self.best_index_]

    def _folds(self, X: Any, y: Any) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        kind = default_estimator(y) if self.estimator is None else self
        try:
            yield from check_cv(self.cv, y, classifier=is_classifier(kind)).split(X, y)
        except ValueError as error:
            raise ValueError(f"cv={self.cv!r} does not split X into folds: {error}") from error

    def _candidate(self) -> SpectralRNNPruner:
        """Return a pruner with these parameters, in the same random state for every fold."""
        params = self.get_params(deep=False)
        known = SpectralRNNPruner().get_params(deep=False).keys()
        names = params.keys() & known - {"estimator", "n_jobs"}
        shared = {name: clone(params[name], safe=False) for name in names}
        return SpectralRNNPruner(self.estimator, **shared | {"random_state": self._drawn})

    def _check_m(self) -> None:
        is_list = isinstance(self.ms, (list, tuple)) or np.ndim(self.ms) == 1
        if not is_list or len(self.ms) == 0:
            error = ValueError if is_list else TypeError
            raise error(f"ms must be a list of at least one int or float; got {self.ms!r}.")
        for i, m in enumerate(self.ms):
            check_nodes(m, f"ms[{i}]", planned_size(self.estimator))

    def _check_params(self) -> None:
        super()._check_params()
        if isinstance(self.cv, Integral) and not (is_number(self.cv) and int(self.cv) > 1):
            raise ValueError(
                "cv must be an int of at least 2, a splitter, pairs of training and test indices, "
                f"or None; got {self.cv!r}."
            )
        finetune = as_finetune(self.finetune)
        if finetune is not None and finetune.n_rounds > 1:
            raise ValueError(
                f"n_rounds of FineTune must be 1 in {type(self).__name__}, which prunes one "
                f"network to every m; got {finetune.n_rounds}. Search over m with GridSearchCV."
            )
        if isinstance(self.scoring, str):
            check_choice("scoring", self.scoring, get_scorer_names())
        elif self.scoring is not None and not callable(self.scoring):
            raise TypeError(
                f"scoring must be the name of a score, a callable or None; got {self.scoring!r}."
            )
        if not isinstance(self.one_standard_error, (bool, np.bool_)):
            raise TypeError(
                f"one_standard_error must be True or False; got {self.one_standard_error!r}."
            )
