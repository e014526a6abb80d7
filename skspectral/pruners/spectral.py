"""The estimator: from sequences to a smaller module."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..calibration.calibrator import Calibration, Calibrator
from ..calibration.moments import HiddenStateMoments
from ..calibration.previous import Before
from ..data.batches import Batches
from ..data.checks import check_sequences
from ..data.dask_sequences import Chunked
from ..data.labelled import Labelled, task_loss
from ..data.memory import as_memory, recalled
from ..data.sampling import HELD_OUT, split
from ..data.sequences import Sequences
from ..rnn.layers.find import find_layers, last_level
from ..rnn.layers.stack import laid_out, put_together
from ..rnn.losses.likelihood import FAMILIES
from ..rnn.states.collector import StateCollector
from ..selection.objective import Objective
from ..selection.reconstruction import RECONSTRUCTIONS, Kind
from ..solvers import Solver
from ..training.distillation import Distillation, as_distillation, distilled
from ..training.finetune import FineTune, as_finetune, fine_tuned
from ..utils.atomic_fit import AllOrNothing, unfitted
from ..utils.doc_hints import explained_on
from ..utils.progress import phase
from ..utils.validation import check_choice, check_count
from .allocation import ALLOCATIONS, check_nodes, node_counts, part_way
from .budget import N_SIZES, largest, parameters_of, part_of, smallest
from .delegation import PredictorMixin, wrapped_has
from .dense_network import classifies, encoded, module_of, planned_size, trained, with_module
from .held_out import held_out_loss, measured_divergence, moments_of, warn_of_few_steps
from .node_selection import choose, layer_of
from .parameters import (
    as_moments,
    as_objective,
    as_solver,
    check_max_divergence,
    check_n_jobs,
    check_tol,
)
from .pruned_layer import ATTRIBUTES, PrunedLayer, of_layers, relative_loss
from .summary import SummaryMixin
from .trajectory_fit import trajectory_fitted
from .transformer import POOLINGS, StateTransformer

Data = tuple[Sequences | Batches, Labelled | None]
N_SEQUENCES = 2048  # to fit trajectories to
# What pruning gives, beside what is told of the choice.
OUTCOME = (
    "trajectory_history_",
    *("distillation_history_", "fine_tuning_history_", "n_parameters_", "pruned_estimator_"),
    *("pruned_module_", "_found", "_last", "_readers", "_unfolded", "_unrefitted"),
)


class SpectralRNNPruner(PredictorMixin, StateTransformer, SummaryMixin, AllOrNothing):
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
        batches ``[inputs, targets]``, as a ``DataLoader`` over labelled data yields them; such
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
        Σ, the time-mean non-centred second moment of the hidden state.
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
        m: int | float | Mapping[str, int | float] = 0.5,
        *,
        allocation: str = "uniform",
        tol: float | None = None,
        max_divergence: float | None = None,
        max_parameters: int | None = None,
        solver: str | Solver = "exchange",
        objective: str | Objective = "combined",
        reconstruction: Kind = "linear",
        likelihood: str = "auto",
        trajectory_fit: int = 300,
        n_refit: int = 2048,
        distill: int | Distillation = 0,
        finetune: int | FineTune | None = None,
        output: str = "last",
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
        return self._become(unfitted(self), lambda fresh: fresh._fit(X, y, moments))

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
        sample = getattr(self, "_sample", [])
        return self._become(
            copy.copy(self),
            lambda fresh: fresh._prune(
                fresh._with_targets(check_sequences(X, fresh, reset=False), y),
                Before(fresh._moments, fresh._weights, sample),
            ),
        )

    def _become(self, fresh: Self, step: Callable[[Self], None]) -> Self:
        start = time.perf_counter()
        super()._become(fresh, step)
        if self.verbose:
            print(self._headline(time.perf_counter() - start))
        return self

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
        return of_layers(copy.deepcopy(self._moments))

    def _fit(self, X: Any, y: Any, moments: Any) -> None:
        self._prune(self._train(X, y), Before(moments))

    def _train(self, X: Any, y: Any) -> Data:
        """The dense network, trained if it has to be, and the sequences to calibrate it on."""
        sequences = check_sequences(X, self, reset=True)
        memory = self._memory_for(sequences)
        self.estimator_ = trained(self.estimator, X, y, self._drawn, self.verbose, memory)
        if self.device is not None:
            module_of(self.estimator_).to(self.device)
        self._layout: str | None = None
        sequences, labelled = self._with_targets(sequences, y)
        self._classifies = classifies(self.estimator_, labelled.targets if labelled else y)
        return sequences, labelled

    def _with_targets(self, sequences: Sequences | Batches, y: Any) -> Data:
        """Sequences, and their targets if training will need them."""
        if as_finetune(self.finetune) is None:
            return sequences, None
        if isinstance(sequences, Batches):
            sequences = sequences.in_memory()
        return sequences, Labelled.of(
            sequences, encoded(self.estimator_, y), module_of(self.estimator_)
        )

    def _prune(self, data: Data, before: Before) -> None:
        """From sequences, and what is known of others, to the smaller module."""
        calibration = self._calibrate(data, before)
        if self.max_divergence is None:
            self._prune_to(N_SIZES, calibration, data)
        else:
            self._search_sizes(calibration, data, self.max_divergence)
        self._hold_out(calibration, data)

    def _prune_to(self, size: int, calibration: Calibration, data: Data) -> None:
        """Prune to a size, of which the largest is that of the parameters."""
        counts, settings = self._counts(calibration, size), as_finetune(self.finetune)
        if settings is None or settings.n_rounds == 1:
            self._shrink(calibration, self._select(calibration, counts))
        else:
            self._prune_in_rounds(calibration, counts, data, settings.n_rounds)
        with explained_on("Sequences and shapes"):
            self.divergence_ = measured_divergence(calibration, self.pruned_module_, self.layers_)

    def _search_sizes(self, calibration: Calibration, data: Data, most: float) -> None:
        """Prune to the smallest size that is good enough; to the largest, if none is."""
        tried: dict[int, Self] = {}

        def is_good(size: int) -> bool:
            tried[size] = copy.copy(self)
            tried[size]._prune_to(size, calibration, data)
            return tried[size].divergence_ <= most

        size = smallest(is_good)
        if size is None:
            warnings.warn(
                f"max_divergence={most} is out of reach: the pruned module has a divergence of "
                f"{tried[N_SIZES].divergence_:.2g} with as many nodes as m allows. Give a larger "
                "m, or more calibration sequences.",
                stacklevel=2,
            )
        self.__dict__.update(tried[size or N_SIZES].__dict__)

    def _hold_out(self, calibration: Calibration, data: Data) -> None:
        """See how the choice does on part of the sequences when it is made from the others."""
        collector, batches = calibration.collector, split(calibration.sample, HELD_OUT)[1]
        memory = self._memory_for(data[0])
        found = recalled(moments_of, memory, (collector, batches))(collector, batches)
        losses = {
            name: held_out_loss(layer, self._moments[name], found.get(name))
            for name, layer in self.layers_.items()
        }
        self.held_out_loss_ = of_layers(losses)
        warn_of_few_steps(self.layers_, self._moments, losses)
        self._warn_of_growth()

    def _prune_in_rounds(
        self, dense: Calibration, counts: dict[str, int], data: Data, n_rounds: int
    ) -> None:
        """The same in rounds; what is told of the choice is told of the dense network."""
        inner, part = copy.copy(self), dense
        nodes = {name: np.arange(problem.n_nodes) for name, problem in dense.problems.items()}
        for left in range(n_rounds, 0, -1):
            inner.tol = self.tol if left == 1 else None
            inner._shrink(part, inner._select(part, part_way(part, counts, 1 / left)))
            told = {name: layer.among(nodes[name]) for name, layer in inner.layers_.items()}
            nodes = {name: selection.support for name, selection in told.items()}
            if left > 1:
                inner.estimator_ = inner.pruned_estimator_
                part = inner._calibrate(data, Before())
        for name in OUTCOME:
            setattr(self, name, getattr(inner, name))
        self._describe(
            {name: layer_of(dense, name, each).posed_anew() for name, each in told.items()}
        )

    def _calibrate(self, data: Data, before: Before) -> Calibration:
        """From sequences to the choices that they pose, added to those seen before."""
        sequences, labelled = data
        collector = self._collector(laid_out(module_of(self.estimator_)))
        before = replace(before, moments=as_moments(before.moments, collector.sizes))
        with explained_on("Sequences and shapes"):
            calibration = self._calibrator(sequences).calibrate(
                collector, sequences, before, module_of(self.estimator_)
            )
        calibration = replace(calibration, labelled=labelled)
        if isinstance(sequences, Batches):
            self.n_features_in_ = sequences.n_features(calibration.batch)
        self._layout, self._sample = collector.layout, calibration.sample
        self._moments: dict[str, HiddenStateMoments] = calibration.moments
        self._weights: dict[str, Any] = {
            name: each.sensitivities for name, each in calibration.statistics.items()
        }
        self.sensitivity_ = of_layers(
            {name: each.sensitivity for name, each in calibration.statistics.items()}
        )
        self.covariance_, self.mean_ = (
            of_layers({name: getattr(each, what) for name, each in self._moments.items()})
            for what in ("covariance", "mean")
        )
        return calibration

    def _calibrator(self, sequences: Sequences | Batches) -> Calibrator:
        distillation, rebuilds = as_distillation(self.distill), self.reconstruction != "none"
        return Calibrator(
            objective=as_objective(self.objective),
            kind=self.reconstruction,
            family=self.likelihood,
            classifies=self._classifies,
            n_distill=distillation.n_sequences if distillation else 0,
            finetunes=as_finetune(self.finetune) is not None,
            n_trajectory=N_SEQUENCES if rebuilds and self.trajectory_fit else 0,
            n_refit=self.n_refit if rebuilds else 0,
            batch_size=self.batch_size,
            memory=self._memory_for(sequences),
            n_jobs=self.n_jobs,
            seed=self._seed(),
            verbose=self.verbose,
        )

    def _select(self, calibration: Calibration, counts: dict[str, int]) -> dict[str, PrunedLayer]:
        """Nodes of every layer, as many as are asked for, or with ``tol`` at most as many."""
        return choose(calibration, self._solver(), counts, self.verbose)

    def _counts(self, calibration: Calibration, size: int) -> dict[str, int]:
        """How many nodes every layer keeps, at a size and within the parameters that are allowed.

        The largest size is that of m.
        """

        def counts(size: int) -> dict[str, int]:
            return node_counts(calibration, part_of(self.m, size), self.allocation)

        most = self.max_parameters
        if most is None:
            return counts(size)
        room = largest(lambda size: parameters_of(calibration, counts(size)) <= most)
        if parameters_of(calibration, counts(room)) > most:
            raise ValueError(
                f"max_parameters must be at least {parameters_of(calibration, counts(1)):,}, the "
                f"parameters of a module with the fewest nodes; got {most!r}."
            )
        return counts(max(1, room * size // N_SIZES))

    def _shrink(self, calibration: Calibration, layers: Mapping[str, PrunedLayer]) -> None:
        """From a choice to the smaller module; as often as there are choices to try."""
        self._describe({name: layer.within(self.tol) for name, layer in layers.items()})
        cuts = {name: layer.cut for name, layer in self.layers_.items()}
        small = calibration.surgery.build_checked(cuts)
        calibration.surgery.warn(cuts)
        cuts, history = trajectory_fitted(calibration, cuts, self.trajectory_fit, self.verbose)
        if history:
            small = calibration.surgery.build_checked(cuts)
        self.trajectory_history_ = of_layers({name: history.get(name, []) for name in cuts})
        self._unrefitted: dict[str, str] = {}
        if calibration.refit and any(cut.n_nodes > len(cut.support) for cut in cuts.values()):
            with phase("refit", self.verbose):
                self._unrefitted = calibration.refit.apply(small, cuts)
        self.distillation_history_ = distilled(
            small, cuts, calibration, self.distill, self._seed(), self.verbose
        )
        self.fine_tuning_history_ = fine_tuned(
            small,
            calibration.collector,
            calibration.labelled,
            task_loss(self.estimator_, calibration.likelihood),
            self.finetune,
            self._seed(),
            self.verbose,
        )
        surgery = calibration.surgery
        self._found, self._unfolded = surgery.layers, surgery.unfolded()
        self._readers = surgery.readers
        self._last = last_level(surgery.layers, surgery.module, surgery.layers[-1].host)
        self.pruned_module_ = put_together(small)
        self.pruned_estimator_ = with_module(self.estimator_, self.pruned_module_)
        self.n_parameters_ = sum(p.numel() for p in self.pruned_module_.parameters())

    def _describe(self, layers: dict[str, PrunedLayer]) -> None:
        """Set the attributes that tell of the selection."""
        self.layers_ = layers
        for attribute, value in ATTRIBUTES.items():
            found = {name: value(layer) for name, layer in layers.items()}
            setattr(self, attribute, of_layers(found))

    def _collector(self, module: nn.Module) -> StateCollector:
        with explained_on("Whole models"):
            return StateCollector(module, find_layers(module), self._layout)

    def _memory_for(self, sequences: Sequences | Batches) -> Any:
        """Where to keep results; what lies elsewhere or is used up by reading is not compared."""
        return None if isinstance(sequences, Batches | Chunked) else self.memory

    def _solver(self) -> Solver:
        return as_solver(self.solver, self._drawn)

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
        return 1.0 - relative_loss(self.layers_, self._dense_moments(X))

    def _dense_moments(self, X: Any) -> dict[str, HiddenStateMoments]:
        """Moments of the hidden states of the dense network on other sequences."""
        sequences = check_sequences(X, self, reset=False)
        collector = self._collector(laid_out(module_of(self.estimator_)))
        return self._calibrator(sequences).collect(collector, sequences)[0]

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
