"""The estimator that prunes by spectra: from sequences to a smaller module."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ..calibration.calibrator import Calibration
from ..calibration.moments import HiddenStateMoments
from ..calibration.previous import PreviousCalibration
from ..data.batches import Batches
from ..data.checks import check_sequences
from ..data.memory import as_memory
from ..data.sequences import Sequences
from ..rnn.losses.likelihood import FAMILIES, Family
from ..selection.objective import Objective
from ..selection.reconstruction import RECONSTRUCTIONS, Kind
from ..solvers import Solver
from ..training.distillation import Distillation, as_distillation
from ..training.finetune import FineTune, as_finetune
from ..utils.atomic_fit import AtomicFitMixin, unfitted_copy
from ..utils.validation import check_choice, check_count
from .allocation import ALLOCATIONS, check_nodes
from .collected import collected
from .delegation import PredictorMixin, estimator_has
from .dense_network import planned_size
from .held_out import held_out_losses, warn_of_few_steps
from .options import Allocation, NodeCount, ObjectiveName, Pooling, SolverName
from .parameters import (
    as_objective,
    as_solver,
    check_max_divergence,
    check_n_jobs,
    check_tol,
)
from .pruned_layer import ATTRIBUTES, relative_loss, unwrap_single_layer
from .steps import (
    Data,
    DenseNetwork,
    SmallNetwork,
    calibrate,
    dense_moments,
    memory_for,
    prune_network,
    train_dense,
    with_targets,
)
from .summary import SummaryMixin, n_parameters
from .transformer import POOLINGS, StateTransformer


class SpectralRNNPruner(PredictorMixin, StateTransformer, SummaryMixin, AtomicFitMixin):
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
    m : int, float or dict, default=0.5
        Hidden nodes to keep of every layer, as a number or as a fraction of the layer in (0, 1]; or
        a dict of these by the name of the layer, which leaves other layers as they are.
    allocation : {"uniform", "global"}, default="uniform"
        Whether m counts the nodes of each layer, or those of all layers together, which are then
        spent where they lower the relative losses most.
    tol : float or None, default=None
        Keep the fewest nodes whose relative loss is at most this; m is then the most.
    max_divergence : float or None, default=None
        Keep the fewest nodes with which ``divergence_``, measured on calibration sequences held
        out, is at most this; m is then the most. Sizes are tried by bisection, up to seven, each
        with all that follows the choice.
    max_parameters : int or None, default=None
        Keep the most nodes with which the module has at most so many parameters; m is then the
        most.
    solver : str or Solver, default="exchange"
        How nodes are chosen: a key of ``SOLVERS`` or an instance.
    objective : str or Objective, default="combined"
        The loss to keep small: ``"input"``, ``"one-step"`` (input, output and recurrent loss),
        ``"combined"`` (these and the sensitivity) or an instance, such as an
        :class:`InformationLoss` with other weights.
    reconstruction : {"linear", "affine", "none"}, default="linear"
        How the lost nodes are rebuilt from the kept ones; ``"none"`` deletes them.
    likelihood : {"auto", "categorical", "bernoulli", "gaussian"}, default="auto"
        What the answers of the network stand for: classes along the last axis, yes or no, or
        numbers. It defines the sensitivity and the divergence of one network from another.
        Probabilities are known by the sigmoid or softmax that they come from, or by adding up to
        one. By default, answers are labels if the network is a classifier, if y holds labels, or
        if they are probabilities; else numbers. The answer is the first floating tensor that
        ``forward`` returns.
    trajectory_fit : int, default=300
        Training steps for each layer, by which its weights and reconstruction are fitted to the
        states that the dense layer goes through, while the small layer runs freely over windows of
        at most 100 steps. It needs no labels, and takes its weights only where the answers on
        calibration sequences that are held out become more like those of the dense network. Layers
        with more than 690,000 weights after pruning take fewer steps, so that none takes more than
        2e12 multiply-adds. 0 keeps the folded weights, and so does ``reconstruction="none"``.
    n_refit : int, default=2048
        On how many sequences the readers outside the layer are fitted, by least squares, to the
        states that the pruned network reaches rather than those that the dense one has; 0 leaves
        them as the reconstruction makes them, and so does ``reconstruction="none"``.
    distill : int or Distillation, default=0
        Epochs of label-free distillation after pruning.
    finetune : int, FineTune or None, default=None
        Epochs of training on the targets after pruning, and after distillation if there is some;
        None is no training. The targets are y or, where X is an iterable, the second entries of
        batches ``[inputs, targets]``, as a ``DataLoader`` over labeled data yields them; such
        batches are held in memory.
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
    n_jobs : int or None, default=None
        Processes of joblib that run calibration batches at the same time; None is one, unless
        ``joblib.parallel_config`` says otherwise, and -1 as many as there are cores.
    random_state : int, RandomState or None, default=None
        Seed of the training of ``estimator=None``, of solvers that draw, of distillation, and of
        what the sensitivity is worked out on; for the last two, None is a seed like others. A
        RandomState is drawn from once in every fit.
    verbose : int, default=0
        Whether to show a progress bar of each phase, and a line on the outcome at the end.

    Attributes
    ----------
    layers_ : dict of PrunedLayer
        What was chosen for each layer, by its name. The attributes below that are of a layer are
        dicts by these names where there are several layers.
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
    held_out_loss_ : float
        Relative loss on a part of the calibration sequences when the same nodes are rebuilt by what
        the others show. Far above ``information_loss_`` it says that there are too few sequences.
        NaN where nothing can be held out: of a single batch or sequence, or where no sequences are
        run again (``n_refit=0`` without sensitivity).
    divergence_ : float
        How far the answers of the pruned module are from those of the dense one, measured by
        running both on calibration sequences held out: the mean KL divergence of an answer in
        nats; of numbers, the squared error relative to their variance; of a bare layer, that of
        the states of the kept nodes. NaN where there is nothing to compare: ``forward`` returns no
        floating numbers, or no sequences are run again (``trajectory_fit=0`` and ``n_refit=0``
        without sensitivity).
    loss_path_ : ndarray of shape (m + 1,)
        Relative loss of the first 0, 1, …, m nodes of the ranking.
    loss_lower_bound_ : float
        Relative loss that no m nodes can go below.
    guarantee_ : Guarantee
        What the :doc:`theory </theory>` promises of m nodes that are drawn by leverage scores.
    covariance_ : ndarray of shape (n_nodes, n_nodes)
        Σ, the time-mean non-centered second moment of the hidden state.
    mean_ : ndarray of shape (n_nodes,)
        Time-mean of the hidden state.
    moments_ : HiddenStateMoments
        The sums both are made of.
    sensitivity_ : ndarray of shape (n_nodes, n_nodes) or None
        G, what errors in reading the state do to the answers and to later states; None where it
        is not needed.
    reconstruction_ : ndarray of shape (n_nodes, m)
        A, which rebuilds all nodes of the dense network from the kept ones.
    intercept_ : ndarray of shape (n_nodes,)
        c, its constant part; zero unless the reconstruction is affine.
    trajectory_history_ : list of float, or dict of these by layer
        Divergence of the answers on held-out sequences, before the trajectory fit of a layer and
        after each fifth of its steps, when this layer and those before it have their pruned size;
        empty where nothing is fitted. Where ``forward`` returns nothing that can be compared, it
        is the error of the rebuilt states.
    distillation_history_ : dict of list
        Divergence on the ``train`` and ``held_out`` sequences before the first and after every
        epoch of distillation; lists are empty without it.
    fine_tuning_history_ : dict of list
        The same of the loss on the targets.
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
        m: NodeCount = 0.5,
        *,
        allocation: Allocation = "uniform",
        tol: float | None = None,
        max_divergence: float | None = None,
        max_parameters: int | None = None,
        solver: SolverName | Solver = "exchange",
        objective: ObjectiveName | Objective = "combined",
        reconstruction: Kind = "linear",
        likelihood: Family = "auto",
        trajectory_fit: int = 300,
        n_refit: int = 2048,
        distill: int | Distillation = 0,
        finetune: int | FineTune | None = None,
        output: Pooling = "last",
        batch_size: int = 256,
        device: str | torch.device | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.m = m
        self.allocation = allocation
        self.tol = tol
        self.max_divergence = max_divergence
        self.max_parameters = max_parameters
        self.solver = solver
        self.objective = objective
        self.reconstruction = reconstruction
        self.likelihood = likelihood
        self.trajectory_fit = trajectory_fit
        self.n_refit = n_refit
        self.distill = distill
        self.finetune = finetune
        self.output = output
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, moments: Any = None) -> Self:
        """Choose the nodes and build the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Calibration sequences: (n_sequences, n_steps, n_features), (n_sequences,
            n_steps) when univariate, a list of (n_steps, n_features) when of unequal
            length, or an iterable or list of batches: a tensor, a tuple for ``module(*batch)``, a
            dict for ``module(**batch)`` of which names that ``forward`` does not take are left
            out, or a list of as many inputs as ``forward`` requires and then of targets.
        y : array-like, default=None
            Targets, for an estimator that has to be trained first.
        moments : HiddenStateMoments or dict of HiddenStateMoments, default=None
            Moments of the hidden states on other sequences, to add to those of X: what another
            fit shows as ``moments_``, or what was added up on other machines.

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
        with self._commit_on_success(unfitted_copy(self)) as new:
            sequences = check_sequences(X, new, reset=True)
            m = new._choose_m(sequences, X, y)
            dense, data = train_dense(new, sequences, X, y)
            calibration = calibrate(new, dense, data, PreviousCalibration(moments))
            network = prune_network(new, m, dense, calibration, data)
            new._set_results(dense, calibration, network)
            new._hold_out(calibration, data)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add calibration sequences to those seen so far, and choose again.

        Moments and sensitivities add up. Some sequences of each call are kept, and readers are
        fitted on those of all calls, in proportion; a pruner that comes out of a file has kept
        none.

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
        if not hasattr(self, "layers_"):
            return self.fit(X, y)
        with self._commit_on_success(copy.copy(self)) as new:
            sequences = check_sequences(X, new, reset=False)
            data = with_targets(new, self._dense, sequences, y)
            sample = getattr(self, "_sample", [])
            before = PreviousCalibration(self._moments, self._weights, sample)
            calibration = calibrate(new, self._dense, data, before)
            network = prune_network(new, new._chosen_m, self._dense, calibration, data)
            new._set_results(self._dense, calibration, network)
            new._hold_out(calibration, data)
        return self

    @contextmanager
    def _commit_on_success(self, new: Self) -> Iterator[Self]:
        start = time.perf_counter()
        with super()._commit_on_success(new):
            yield new
        if self.verbose:
            print(self._headline(time.perf_counter() - start))

    def _choose_m(self, _sequences: Sequences | Batches, _X: Any, _y: Any) -> Any:
        """Choose how many nodes to keep, and return that."""
        return self._chosen_m

    @property
    def _chosen_m(self) -> Any:
        """How many nodes to keep."""
        return self.m

    def _set_results(
        self, dense: DenseNetwork, calibration: Calibration, network: SmallNetwork
    ) -> None:
        """Set the attributes that tell of a pruned network."""
        self._layout, self._shown = calibration.collector.layout, network.shown
        self._dense = replace(dense, layout=self._layout)
        self._network, self._sample = network, calibration.sample
        self._moments: dict[str, HiddenStateMoments] = calibration.moments
        self._weights: dict[str, Any] = {
            name: each.sensitivities for name, each in calibration.statistics.items()
        }
        self.layers_ = network.layers
        for attribute, value in ATTRIBUTES.items():
            found = {name: value(layer) for name, layer in self.layers_.items()}
            setattr(self, attribute, unwrap_single_layer(found))
        self.sensitivity_ = unwrap_single_layer(
            {name: each.sensitivity for name, each in calibration.statistics.items()}
        )
        self.covariance_, self.mean_ = (
            unwrap_single_layer({name: getattr(each, what) for name, each in self._moments.items()})
            for what in ("covariance", "mean")
        )
        self.estimator_, self.pruned_estimator_ = dense.estimator, network.estimator
        self.pruned_module_ = network.module
        self.n_parameters_ = n_parameters(network.module)
        self.divergence_ = network.divergence
        self.trajectory_history_ = unwrap_single_layer(network.trajectory_history)
        self.distillation_history_ = network.distillation_history
        self.fine_tuning_history_ = network.fine_tuning_history

    def _hold_out(self, calibration: Calibration, data: Data) -> None:
        """Set what sequences held out tell, and warn of what is wrong."""
        if isinstance(data.sequences, Batches):
            self.n_features_in_ = data.sequences.n_features(calibration.batch)
        memory = memory_for(self, data.sequences)
        losses = held_out_losses(calibration, self.layers_, memory)
        self.held_out_loss_ = unwrap_single_layer(losses)
        warn_of_few_steps(self.layers_, self._moments, losses)
        self._warn_of_growth()

    def __copy__(self) -> Self:
        """All of it, with the sequences that files do not hold."""
        return self._filled(vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same of copies."""
        return self._filled(copy.deepcopy(vars(self), memo))

    def _filled(self, attributes: Mapping[str, Any]) -> Self:
        """Another of the class with these attributes."""
        other = type(self).__new__(type(self))
        other.__dict__ = dict(attributes)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """All but the sequences that ``partial_fit`` runs again, which are not for files."""
        return {name: value for name, value in super().__getstate__().items() if name != "_sample"}

    @property
    def moments_(self) -> Any:
        """Moments of the hidden states, each time a copy, which may be merged with others."""
        check_is_fitted(self)
        return unwrap_single_layer(copy.deepcopy(self._moments))

    def hidden_states(self, X: Any, layer: str | None = None, *, dense: bool = False) -> Any:
        """Return the hidden states of a layer at every step.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in ``fit``.
        layer : str or None, default=None
            Name of the layer, a key of ``layers_``; None if there is only one.
        dense : bool, default=False
            Whether to run the dense network instead of the pruned one.

        Returns
        -------
        ndarray of shape (n_sequences, n_steps, m)
            States of the kept nodes; of all ``n_nodes`` nodes for the dense network. A list of
            arrays of shape (n_steps, m) for sequences of unequal length. A layer that runs backward
            has the last step first.

        Raises
        ------
        ValueError
            If ``layer`` is not the name of a layer.
        NotFittedError
            If the pruner is not fitted.

        Examples
        --------
        >>> import torch
        >>> from skspectral import SpectralRNNPruner
        >>> gru, X = torch.nn.GRU(3, 8, batch_first=True), torch.randn(50, 20, 3)
        >>> pruner = SpectralRNNPruner(gru, m=4).fit(X)
        >>> pruner.hidden_states(X).shape, pruner.hidden_states(X, dense=True).shape
        ((50, 20, 4), (50, 20, 8))
        """
        return collected(self, X, layer, dense=dense)

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
        if estimator_has("score")(self):
            return self._delegate("score", X, y)
        sequences = check_sequences(X, self, reset=False)
        return 1.0 - relative_loss(self.layers_, dense_moments(self, self._dense, sequences))

    def _check_params(self) -> None:
        self._check_m()
        check_choice("allocation", self.allocation, ALLOCATIONS)
        check_tol(self.tol)
        check_max_divergence(self.max_divergence)
        if self.max_parameters is not None:
            check_count("max_parameters", self.max_parameters)
        as_solver(self.solver, self.random_state)
        as_objective(self.objective)
        check_choice("reconstruction", self.reconstruction, RECONSTRUCTIONS)
        check_choice("likelihood", self.likelihood, FAMILIES)
        check_count("trajectory_fit", self.trajectory_fit, least=0)
        check_count("n_refit", self.n_refit, least=0)
        as_distillation(self.distill)
        as_finetune(self.finetune)
        check_choice("output", self.output, POOLINGS)
        check_count("batch_size", self.batch_size)
        as_memory(self.memory)
        check_n_jobs(self.n_jobs)

    def _check_m(self) -> None:
        check_nodes(self.m, n_nodes=planned_size(self.estimator))
