"""The spectral pruner."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, get_args

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
from ..rnn.layers.weights import n_parameters
from ..rnn.losses.likelihood import FAMILIES, Family
from ..selection.objective import Objective
from ..selection.reconstruction import RECONSTRUCTIONS, Kind
from ..solvers import Solver
from ..training.distillation import Distillation, as_distillation
from ..training.finetune import FineTune, as_finetune
from ..utils.atomic_fit import AtomicFitMixin, unfitted_copy
from ..utils.validation import check_choice, check_count, check_device
from .allocation import ALLOCATIONS, check_nodes
from .collected import collected
from .delegation import PredictorMixin, check_targets, estimator_has
from .dense_network import check_estimator, memory_for, planned_size
from .held_out import held_out_losses, warn_of_few_steps
from .options import Allocation, NodeCount, ObjectiveName, Pooling, SolverName, StateSize
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
    prune_network,
    train_dense,
    with_targets,
)
from .summary import SummaryMixin
from .transformer import POOLINGS, StateTransformer


class SpectralRNNPruner(PredictorMixin, StateTransformer, SummaryMixin, AtomicFitMixin):
    """Make a trained recurrent network smaller by spectral pruning.

    Calibration sequences run through the network. The covariance of its hidden states shows which
    nodes can be rebuilt linearly from which others; a solver chooses the nodes to keep, and the
    linear map that rebuilds the others is folded into the remaining weights. These are then fitted,
    without labels, to the hidden states of the dense network. The result is an ordinary, dense
    torch module.

    Parameters
    ----------
    estimator : nn.Module, estimator or None, default=None
        The network to prune: a trained ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``, or a module that
        contains one; or an estimator with such a module as its ``module_``, which is trained first
        unless it is fitted. With None, an :class:`RNNClassifier` is trained if y holds strings,
        booleans or whole numbers, and else an :class:`RNNRegressor`. The object itself is never
        changed.
    m : int, float or dict, default=0.5
        Hidden nodes to keep of every layer, as a number or as a fraction of the layer in (0, 1]; or
        a dict of these by the name of the layer, which leaves other layers unchanged.
    allocation : {"uniform", "global"}, default="uniform"
        Whether m counts the nodes of each layer or of all layers together. In the latter case,
        nodes are allocated to the layers where they reduce the relative losses most.
    tol : float or None, default=None
        Keep the fewest nodes whose relative loss is at most ``tol``; m is then the maximum.
    max_divergence : float or None, default=None
        Keep the fewest nodes for which ``divergence_``, measured on held-out calibration sequences,
        is at most this; m is then the maximum. Sizes are tried by bisection, up to seven of them,
        each with all steps that follow the selection.
    max_parameters : int or None, default=None
        Keep the most nodes for which the module has at most this many parameters; m is then the
        maximum.
    solver : str or Solver, default="exchange"
        The solver that chooses the nodes: a key of ``SOLVERS`` or an instance.
    objective : str or Objective, default="combined"
        The loss that the solver minimizes: ``"input"``, ``"one-step"`` (input, output and recurrent
        loss), ``"combined"`` (these and the sensitivity) or an instance, such as an
        :class:`InformationLoss` with other weights.
    reconstruction : {"linear", "affine", "none"}, default="linear"
        How the lost nodes are rebuilt from the kept ones; ``"none"`` deletes them.
    likelihood : {"auto", "categorical", "bernoulli", "gaussian"}, default="auto"
        How the outputs of the network are interpreted: as classes along the last axis, as
        yes-or-no decisions, or as numbers. It defines the sensitivity and the divergence between
        two networks. By default, outputs are class labels if the network is a classifier, if y
        or the targets in the batches of a ``DataLoader`` are labels, or if the outputs are
        probabilities (they come from a sigmoid or softmax, or
        sum to one); otherwise they are numbers. The first floating-point tensor that ``forward``
        returns is used.
    trajectory_fit : int, default=300
        Number of training steps for each layer in which its weights and its reconstruction are
        fitted to the hidden states of the dense layer, while the small layer runs freely over
        windows of at most 100 time steps (300 for relu). No labels are needed. The fitted weights
        are used only where they bring the outputs on held-out calibration sequences closer to those
        of the dense network. A layer with more than 690,000 weights after pruning (230,000 for
        relu) takes fewer steps, so that none needs more than 2e12 multiply-adds. With 0, or with
        ``reconstruction="none"``, the folded weights are kept.
    n_refit : int, default=2048
        Number of calibration sequences on which the linear maps that read the layer are refitted by
        least squares to the hidden states of the pruned network. With 0, or with
        ``reconstruction="none"``, they remain as folded.
    distill : int or Distillation, default=0
        Epochs of label-free distillation after pruning.
    finetune : int, FineTune or None, default=None
        Epochs of training on the targets after pruning, and after distillation if there is any;
        None means no training. The targets are y or, if X is an iterable or list of batches, the
        last entries of lists or tuples such as ``[inputs, targets]``, as a ``DataLoader`` over
        labeled data yields them; such batches are held in memory. Class labels of -100 are left
        out of the loss.
    state_size : {"pruned", "dense"}, default="pruned"
        Size of the last hidden and cell states that ``forward`` returns beside other outputs, as in
        streaming: ``"pruned"``, those of the kept nodes; ``"dense"``, rebuilt to all nodes. Initial
        states are accepted in both sizes.
    output : {"last", "mean", "sequence"}, default="last"
        What ``transform`` returns: the kept states of the last step, their mean over the steps, or
        all of them.
    batch_size : int, default=256
        Maximum number of sequences in one forward pass.
    device : str, torch.device or None, default=None
        Device on which the network runs; None leaves it where it is.
    memory : str, path, joblib.Memory or None, default=None
        Cache of trained networks and of moments, so that a grid search over ``m`` trains and runs
        the network once per fold. Cache keys are content hashes of all inputs. Training is cached
        if the estimator's ``random_state`` is set, since otherwise it is not reproducible. Nothing
        is cached for iterables of batches.
    n_jobs : int or None, default=None
        Number of joblib processes that run calibration batches in parallel; None means one unless
        ``joblib.parallel_config`` sets it, and -1 means all cores.
    random_state : int, RandomState or None, default=None
        Seed of the training of ``estimator=None``, of solvers that draw, of distillation, and of
        the sample for the sensitivity. For the last two, None means a fixed default seed. A
        RandomState is drawn from once in every fit.
    verbose : int, default=0
        Whether to show a progress bar of each phase, and a line about the result at the end.

    Attributes
    ----------
    layers_ : dict of PrunedLayer
        The selection for each layer, by its name. With several layers, the attributes below that
        belong to a layer are dicts by these names.
    estimator_ : nn.Module or estimator
        The trained dense network: a copy of what was given, or what was trained.
    pruned_estimator_ : nn.Module or estimator
        The same with the smaller module.
    pruned_module_ : nn.Module
        The smaller torch module, in evaluation mode.
    support_ : ndarray of int, shape (m,)
        The kept nodes, in ascending order.
    ranking_ : ndarray of int, shape (n_nodes,)
        1 for the node chosen first, 2 for the next, and so on; ``m_ + 1`` for nodes not kept.
    m_ : int
        Number of nodes kept.
    information_loss_ : float
        Loss of the reconstruction on the calibration sequences, relative to the loss of keeping
        nothing.
    held_out_loss_ : float
        Relative loss on held-out calibration sequences when the same nodes are rebuilt by a map
        made from the others. A value far above ``information_loss_`` means that there are too few
        calibration sequences. NaN if nothing can be held out: with a single batch or sequence.
    divergence_ : float
        How far the outputs of the pruned module are from those of the dense one, measured by
        running both on held-out calibration sequences: the mean KL divergence of an output in nats
        or, for outputs that are numbers, the squared error relative to their variance. For a bare
        layer, the outputs are the states of the kept nodes. NaN if there is nothing to compare:
        ``forward`` returns no floating-point numbers.
    loss_path_ : ndarray of shape (m + 1,)
        Relative loss of the first 0, 1, …, m nodes of the ranking.
    loss_lower_bound_ : float
        A lower bound on the relative loss of any m nodes.
    guarantee_ : Guarantee
        :doc:`Bound </user_guide/theory>` for m nodes drawn by leverage scores.
    covariance_ : ndarray of shape (n_nodes, n_nodes)
        Σ, the time-mean non-centered second moment of the hidden state.
    mean_ : ndarray of shape (n_nodes,)
        Time-mean of the hidden state.
    moments_ : HiddenStateMoments
        The sums from which both are computed.
    sensitivity_ : ndarray of shape (n_nodes, n_nodes) or None
        G, the effect of errors in the state on the outputs and on later states; None where it is
        not needed.
    reconstruction_ : ndarray of shape (n_nodes, m)
        A, which rebuilds all nodes of the dense network from the kept ones.
    intercept_ : ndarray of shape (n_nodes,)
        c, its constant part; zero unless the reconstruction is affine.
    trajectory_history_ : list of float, or dict of these by layer
        Divergence of the outputs on held-out sequences before the trajectory fit of a layer and
        after each fifth of its steps, with this layer and those before it at their pruned size;
        empty where nothing is fitted. If ``forward`` returns nothing that can be compared, it is
        the error of the rebuilt states.
    distillation_history_ : dict of list
        Divergence on the ``train`` and ``held_out`` sequences before the first and after every
        epoch of distillation; the lists are empty without distillation.
    fine_tuning_history_ : dict of list
        The same for fine-tuning, with the loss on the targets.
    n_parameters_ : int
        Number of parameters of the smaller module.
    n_features_in_ : int
        Size of the last axis of X.
    feature_names_in_ : ndarray of str
        Column names, if X has any.

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
        self.state_size = state_size
        self.output = output
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, moments: Any = None) -> Self:
        """Choose the nodes to keep and build the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Calibration sequences: (n_sequences, n_steps, n_features), (n_sequences,
            n_steps) when univariate, a list of (n_steps, n_features) when of unequal
            length, or an iterable or list of batches: a tensor, a tuple for ``module(*batch)``, a
            dict for ``module(**batch)`` of which names that ``forward`` does not take are left
            out, or a list of as many inputs as ``forward`` requires and then of targets.
        y : array-like, default=None
            Targets, for an estimator that is not trained yet, and for fine-tuning.
        moments : HiddenStateMoments or dict of HiddenStateMoments, default=None
            Moments of the hidden states on other sequences, to add to those of X: the ``moments_``
            of another fit, or sums from other machines.

        Returns
        -------
        SpectralRNNPruner
            Itself.

        Raises
        ------
        ValueError
            If a parameter or a value of X is not valid. The estimator then remains unchanged.
        TypeError
            If a parameter or X has the wrong type.
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
        """Add calibration sequences to those seen so far, and prune the dense network again.

        Moments and sensitivities are added to those of earlier calls. A sample of the sequences of
        all calls is kept in memory, and layers and readers are fitted to it. Files do not contain
        this sample.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Further sequences, as in ``fit``.
        y : array-like, default=None
            Targets; only the first call trains the dense network, later ones use y for
            fine-tuning.

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
        """Choose and return the number of nodes to keep."""
        return self._chosen_m

    @property
    def _chosen_m(self) -> Any:
        """The number of nodes to keep."""
        return self.m

    def _set_results(
        self, dense: DenseNetwork, calibration: Calibration, network: SmallNetwork
    ) -> None:
        """Set the attributes that describe a pruned network."""
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
        """Set the losses on held-out sequences, and warn of results that cannot be trusted."""
        if isinstance(data.sequences, Batches):
            self.n_features_in_ = data.sequences.n_features(calibration.batch)
        memory = memory_for(self.memory, data.sequences)
        losses = held_out_losses(calibration, self.layers_, memory)
        self.held_out_loss_ = unwrap_single_layer(losses)
        warn_of_few_steps(self.layers_, self._moments, losses)
        self._warn_of_growth()

    def __copy__(self) -> Self:
        """Return a copy that shares the sequences that files do not contain."""
        return self._filled(vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a deep copy, including the sequences that files do not contain."""
        return self._filled(copy.deepcopy(vars(self), memo))

    def _filled(self, attributes: Mapping[str, Any]) -> Self:
        """Return a new pruner with these attributes."""
        other = type(self).__new__(type(self))
        other.__dict__ = dict(attributes)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes but the sequences kept for ``partial_fit``."""
        return {name: value for name, value in super().__getstate__().items() if name != "_sample"}

    @property
    def moments_(self) -> Any:
        """Moments of the hidden states: a new copy each time, which may be merged with others."""
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
        return collected(self, X, layer, dense=[dense])[0]

    def score(self, X: Any, y: Any = None) -> float:
        """Return the score of the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in ``fit``.
        y : array-like, default=None
            Targets, if the wrapped estimator needs them.

        Returns
        -------
        float
            The score of the wrapped estimator; for a torch module, one minus the relative
            information loss on X.
        """
        check_is_fitted(self)
        if estimator_has("score")(self):
            check_targets(self, y)
            return self._delegate("score", X, y)
        sequences = check_sequences(X, self, reset=False)
        return 1.0 - relative_loss(self.layers_, dense_moments(self, self._dense, sequences))

    def _check_params(self) -> None:
        check_estimator(self.estimator)
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
        check_choice("state_size", self.state_size, get_args(StateSize))
        check_choice("output", self.output, POOLINGS)
        check_count("batch_size", self.batch_size)
        check_device(self.device)
        as_memory(self.memory)
        check_n_jobs(self.n_jobs)

    def _check_m(self) -> None:
        check_nodes(self.m, n_nodes=planned_size(self.estimator))
