"""The estimator: from sequences to a smaller module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .caching import as_memory, recalled
from .calibration import Calibration, collect
from .covariance import HiddenStateMoments
from .objective import InformationLoss
from .parameters import (
    as_objective,
    as_solver,
    check_choice,
    check_count,
    check_tol,
    count_nodes,
)
from .reconstruction import RECONSTRUCTIONS, Kind, centred, reconstruct, reconstruction_loss
from .rnn.layers import find_layer, in_float64, incoming_norms, weights_of
from .rnn.readers import find_readers
from .rnn.states import StateCollector
from .rnn.surgery import Cut, build
from .sequences import Batches, Sequences, check_sequences
from .solvers import Selection, SelectionProblem, Solver
from .transformer import POOLINGS, StateTransformer
from .wrapped import PredictorMixin, module_of, trained, with_module, wrapped_has


class SpectralRNNPruner(PredictorMixin, StateTransformer, BaseEstimator):
    """Make a trained recurrent network smaller by spectral pruning.

    Sequences run through the network, the covariance of its hidden states tells which
    nodes can be rebuilt from which others, a solver chooses the nodes to keep, and the
    map that rebuilds the rest is folded into the remaining weights. The result is an
    ordinary dense torch module.

    Parameters
    ----------
    estimator : nn.Module, estimator or None, default=None
        What to prune: a trained ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``, or a module that holds
        one; an estimator around such a module (it has ``module_``), which is trained
        first unless it is fitted; None trains an :class:`RNNClassifier` or
        :class:`RNNRegressor` by the kind of y. The object itself is never changed.
    m : int or float, default=0.5
        Hidden nodes to keep, as a number or as a fraction of the layer in (0, 1].
    tol : float or None, default=None
        Keep the fewest nodes whose relative loss is at most this; m is then the most.
    solver : str or Solver, default="greedy"
        How nodes are chosen: a key of ``SOLVERS`` or an instance.
    objective : str, InformationLoss or None, default=None
        The loss to keep small: ``"input"``, ``"output"``, ``"recurrent"``, ``"combined"`` (all
        three, the default) or an instance.
    reconstruction : {"linear", "affine", "none"}, default="linear"
        How the lost nodes are rebuilt from the kept ones; ``"none"`` deletes them.
    output : {"last", "mean", "sequence"}, default="last"
        What ``transform`` gives: the kept states of the last step, their mean over the
        steps, or all of them.
    batch_size : int, default=256
        Most sequences in one forward pass.
    device : str, torch.device or None, default=None
        Where the network runs; None leaves it where it is.
    memory : str, path, joblib.Memory or None, default=None
        Where trained networks and moments are kept, so that a grid search over ``m`` trains
        and runs the network once per fold. Both are known by the content of all they depend
        on. Training is kept where the estimator has a ``random_state`` that is set, since
        without one no two trainings are the same. Nothing is kept of iterables of batches.
    random_state : int, RandomState or None, default=None
        Seed of the training of ``estimator=None`` and of solvers that draw.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The trained dense network: a copy of what was given, or what was trained.
    pruned_estimator_ : nn.Module or estimator
        The same with the smaller module.
    pruned_module_ : nn.Module
        The smaller torch module, in evaluation mode.
    support_ : ndarray of int, shape (m,)
        The kept nodes, ascending.
    ranking_ : ndarray of int, shape (n_nodes,)
        1 for the node chosen first, 2 for the next; ``m_ + 1`` for those not kept.
    m_ : int
        Nodes kept.
    information_loss_ : float
        Loss of the reconstruction on the calibration sequences, relative to that of
        keeping nothing.
    loss_path_ : ndarray of shape (m + 1,)
        Relative loss of the first 0, 1, …, m nodes of the ranking.
    loss_lower_bound_ : float
        Relative loss that no m nodes can go below.
    covariance_ : ndarray of shape (n_nodes, n_nodes)
        Σ, the time-mean non-centred second moment of the hidden state.
    mean_ : ndarray of shape (n_nodes,)
        Time-mean of the hidden state.
    moments_ : HiddenStateMoments
        The sums both are made of.
    reconstruction_ : ndarray of shape (n_nodes, m)
        A, which rebuilds all nodes from the kept ones.
    intercept_ : ndarray of shape (n_nodes,)
        c, its constant part; zero unless the reconstruction is affine.
    n_parameters_ : int
        Parameters of the smaller module.
    n_features_in_ : int
        Size of the last axis of X.
    feature_names_in_ : ndarray of str
        Column names, when X has some.

    References
    ----------
    Furuya et al., Spectral Pruning for Recurrent Neural Networks, AISTATS 2022.

    Examples
    --------
    >>> import torch
    >>> from skspectral import SpectralRNNPruner
    >>> _ = torch.manual_seed(0)
    >>> gru = torch.nn.GRU(input_size=3, hidden_size=32, batch_first=True)
    >>> pruner = SpectralRNNPruner(gru, m=8).fit(torch.randn(50, 20, 3))
    >>> pruner.pruned_module_
    GRU(3, 8, batch_first=True)
    >>> pruner.transform(torch.randn(5, 20, 3)).shape
    (5, 8)
    """

    def __init__(
        self,
        estimator: Any = None,
        m: int | float = 0.5,
        *,
        tol: float | None = None,
        solver: str | Solver = "greedy",
        objective: str | InformationLoss | None = None,
        reconstruction: Kind = "linear",
        output: str = "last",
        batch_size: int = 256,
        device: str | torch.device | None = None,
        memory: Any = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.m = m
        self.tol = tol
        self.solver = solver
        self.objective = objective
        self.reconstruction = reconstruction
        self.output = output
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the nodes and build the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Calibration sequences: (n_sequences, n_steps, n_features), (n_sequences,
            n_steps) when univariate, a list of (n_steps, n_features) when of unequal
            length, or batches of whatever ``forward`` takes.
        y : array-like, default=None
            Targets, for an estimator that has to be trained first.

        Returns
        -------
        SpectralRNNPruner
            Itself.

        Raises
        ------
        ValueError
            If a parameter or a value of X cannot be used. The estimator is then as it
            was before.
        TypeError
            If a parameter or X is of a wrong type.
        """
        return self._become(unfitted(self), lambda fresh: fresh._fit(X, y))

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add calibration sequences to those seen so far, and choose again.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Further sequences, as in ``fit``.
        y : array-like, default=None
            Targets, used by the first call alone.

        Returns
        -------
        SpectralRNNPruner
            Itself.
        """
        if not hasattr(self, "moments_"):
            return self.fit(X, y)
        return self._become(
            copy.copy(self), lambda fresh: fresh._prune(check_sequences(X, fresh, reset=False))
        )

    def _become(self, fresh: Self, step: Callable[[Self], None]) -> Self:
        """Take over the outcome of a step on a copy, so that a failure changes nothing."""
        self._check_params()
        with torch.random.fork_rng(devices=[]):
            step(fresh)
        self.__dict__ = fresh.__dict__
        return self

    def _fit(self, X: Any, y: Any) -> None:
        self._prune(self._train(X, y))

    def _train(self, X: Any, y: Any) -> Sequences | Batches:
        """The dense network, trained if it has to be, and the sequences to calibrate it on."""
        sequences = check_sequences(X, self, reset=True)
        memory = self._memory_for(sequences)
        self.estimator_ = trained(self.estimator, X, y, self.random_state, self.verbose, memory)
        if self.device is not None:
            module_of(self.estimator_).to(self.device)
        self._layout: str | None = None
        return sequences

    def _prune(self, sequences: Sequences | Batches) -> None:
        """From sequences to the smaller module."""
        collector = self._collector(module_of(self.estimator_))
        most = self._most(collector.layer.of(collector.module).hidden_size)
        calibration = self._calibrate(collector, sequences)
        self._shrink(calibration, self._select(calibration.problem, most))

    def _calibrate(self, collector: StateCollector, sequences: Sequences | Batches) -> Calibration:
        """From sequences to the choice that they pose, whatever the number of nodes."""
        found, batch = self._collect(collector, sequences)
        if isinstance(sequences, Batches):
            self.n_features_in_ = sequences.n_features(batch)
        # Added to none, since what memory gives may be a map of a file, which cannot be changed.
        moments = HiddenStateMoments(found.n_nodes).merge(found)
        if hasattr(self, "moments_"):
            moments.merge(self.moments_)
        self.moments_: HiddenStateMoments = moments
        self._layout = collector.layout
        self.covariance_, self.mean_ = moments.covariance, moments.mean
        find = recalled(find_readers, self._memory_for(sequences), (collector, batch))
        readers = find(collector, batch)
        problem = self._problem(collector, readers.weights(collector.module))
        return Calibration(collector, readers, batch, problem)

    def _shrink(self, calibration: Calibration, selection: Selection) -> None:
        """From a selection to the smaller module; as often as there are selections to try."""
        problem = calibration.problem
        self._describe(problem, self._enough(problem, selection))
        self.reconstruction_, self.intercept_ = reconstruct(
            self.covariance_, self.mean_, self.support_, problem.ridge, self.reconstruction
        )
        self.information_loss_ = self._relative_loss(self.moments_)

        cut = Cut.from_arrays(self.support_, self.reconstruction_, self.intercept_)
        self.pruned_module_ = build(
            calibration.collector, cut, calibration.readers, calibration.batch
        )
        self.pruned_estimator_ = with_module(self.estimator_, self.pruned_module_)
        self.n_parameters_ = sum(p.numel() for p in self.pruned_module_.parameters())

    def _most(self, n_nodes: int | None = None) -> int:
        """The number of nodes to keep, or with ``tol`` the most."""
        return count_nodes(self.m, n_nodes)

    def _collector(self, module: nn.Module) -> StateCollector:
        return StateCollector(module, find_layer(module), self._layout)

    def _collect(
        self, collector: StateCollector, sequences: Sequences | Batches
    ) -> tuple[HiddenStateMoments, Any]:
        """Moments of the hidden states, and the first batch."""
        batches = sequences.batches(self.batch_size)
        first = next(batches)
        key = (collector, sequences, self.batch_size)
        run_through = recalled(collect, self._memory_for(sequences), key)
        moments, layout = run_through(collector, chain([first], batches), self.verbose)
        collector.layout = layout
        return moments, first[1]

    def _memory_for(self, sequences: Sequences | Batches) -> Any:
        """Where to keep results; iterables of batches cannot be compared without using them up."""
        return None if isinstance(sequences, Batches) else self.memory

    def _problem(self, collector: StateCollector, readers: Iterator[Tensor]) -> SelectionProblem:
        rnn = collector.layer.of(collector.module)
        problem = as_objective(self.objective).problem(
            self.covariance_,
            in_float64(weights_of(rnn)["weight_hh"]).numpy(),
            [weight.numpy() for weight in readers],
        )
        centre = centred(self.covariance_, self.mean_, self.reconstruction)
        return replace(problem, covariance=centre, magnitude=incoming_norms(rnn).numpy())

    def _select(self, problem: SelectionProblem, most: int) -> Selection:
        return as_solver(self.solver, self.random_state).select(problem, most)

    def _enough(self, problem: SelectionProblem, selection: Selection) -> Selection:
        """The fewest nodes of a selection whose loss is within ``tol``; all if none are."""
        if self.tol is None:
            return selection
        enough = selection.loss_path <= self.tol * self._total(problem)
        enough[0] = False
        return selection.first(int(enough.argmax())) if enough.any() else selection

    def _describe(self, problem: SelectionProblem, selection: Selection) -> None:
        """Set the attributes that tell of the selection."""
        self.support_ = selection.support
        self.m_ = len(self.support_)
        self.ranking_ = np.full(problem.n_nodes, self.m_ + 1)
        self.ranking_[selection.order] = np.arange(1, self.m_ + 1)
        self._weight = problem.weight
        total = self._total(problem) or 1.0
        self.loss_path_ = selection.loss_path / total
        self.loss_lower_bound_ = float(problem.lower_bound()[self.m_] / total)

    def _total(self, problem: SelectionProblem) -> float:
        """Loss of keeping nothing, of the states as they are (not centred)."""
        return float(np.vdot(problem.weight, self.covariance_))

    def _relative_loss(self, moments: HiddenStateMoments) -> float:
        """Loss of the reconstruction on some states, over that of keeping nothing."""
        loss = reconstruction_loss(
            moments.covariance,
            moments.mean,
            self._weight,
            self.reconstruction_,
            self.intercept_,
            self.support_,
        )
        return loss / (float(np.vdot(self._weight, moments.covariance)) or 1.0)

    def score(self, X: Any, y: Any = None) -> float:
        """Score of the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in ``fit``.
        y : array-like, default=None
            Targets, where the wrapped estimator scores by them.

        Returns
        -------
        float
            The score of the wrapped estimator; around a torch module, the part of the
            objective that is kept on X, one minus the relative information loss.
        """
        check_is_fitted(self)
        if wrapped_has("score")(self):
            return self._ask("score", X, y)
        return 1.0 - self._relative_loss(self._dense_moments(X))

    def _dense_moments(self, X: Any) -> HiddenStateMoments:
        """Moments of the hidden states of the dense network on other sequences."""
        sequences = check_sequences(X, self, reset=False)
        return self._collect(self._collector(module_of(self.estimator_)), sequences)[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Once fitted, that of estimator=None is known to be a classifier or a regressor.
        estimator = getattr(self, "estimator_", self.estimator)
        if isinstance(estimator, BaseEstimator):
            inner = get_tags(estimator)
            tags.estimator_type = inner.estimator_type
            tags.classifier_tags = inner.classifier_tags
            tags.regressor_tags = inner.regressor_tags
            tags.target_tags = inner.target_tags
        tags.target_tags.required |= self.estimator is None
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_params(self) -> None:
        self._check_m()
        check_tol(self.tol)
        as_solver(self.solver, self.random_state)
        as_objective(self.objective)
        check_choice("reconstruction", self.reconstruction, RECONSTRUCTIONS)
        check_choice("output", self.output, POOLINGS)
        check_count("batch_size", self.batch_size)
        as_memory(self.memory)

    def _check_m(self) -> None:
        count_nodes(self.m)


def unfitted(pruner: SpectralRNNPruner) -> SpectralRNNPruner:
    """A copy of a pruner with its parameters and none of its results."""
    fresh = copy.copy(pruner)
    for name in [name for name in vars(fresh) if name.endswith("_")]:
        delattr(fresh, name)
    return fresh
