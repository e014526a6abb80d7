"""Neuron selection by gates that are trained together with the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..calibration.sensitivity import outputs_likelihood
from ..data.batches import Batches
from ..data.checks import check_sequences
from ..data.labeled import LabeledSequences, SupervisedLoss, task_loss
from ..data.memory import as_memory
from ..rnn.forward_pass import ForwardPass
from ..rnn.gates import Gated
from ..rnn.layers.find import RecurrentLayer, find_layers, output_layers
from ..rnn.layers.stack import merge_layers, split_layers
from ..rnn.layers.weights import copy_of, n_parameters
from ..rnn.losses.likelihood import FAMILIES, Family
from ..rnn.states.collector import StateCollector
from ..rnn.surgery.inputs import select_inputs
from ..rnn.surgery.surgery import Surgery
from ..rnn.tracing.tracer import find_readers
from ..training.finetune import FineTune, as_finetune, fine_tuned, training_steps
from ..utils.atomic_fit import AtomicFitMixin, unfitted_copy
from ..utils.validation import check_choice, check_count, check_device, is_number
from .delegation import PredictorMixin
from .dense_network import (
    check_estimator,
    fit_or_copy,
    get_module,
    labeled_data,
    memory_for,
    n_classes_of,
    replace_module,
)
from .gated_layer import GatedLayer, as_supports, check_followed
from .options import Pooling
from .pruned_layer import unwrap_single_layer
from .transformer import POOLINGS, StateTransformer


class L0PenalizedLoss:
    """A loss plus a price for every weight that is expected to remain.

    Parameters
    ----------
    task : SupervisedLoss
        The task.
    of_inputs, of_nodes : float
        Prices of a weight that reads inputs or other layers, and of one that reads states.
    """

    def __init__(self, task: SupervisedLoss, of_inputs: float, of_nodes: float) -> None:
        self._task, self._of_inputs, self._of_nodes = task, of_inputs, of_nodes

    def loss(self, module: Any, numbers: Tensor) -> Tensor:
        """Return the loss of a gated network on the examples with the given indices."""
        penalty = module.penalty(self._of_inputs, self._of_nodes)
        return self._task.loss(module, numbers) + penalty


class NeuronSelectionPruner(PredictorMixin, StateTransformer, AtomicFitMixin):
    """Make a recurrent network smaller by gates that learn which neurons it needs.

    Every hidden node and every input of the network gets a gate, a random variable that is exactly
    zero with a probability of its own. Gates and weights are trained together on the targets, and
    every weight that is expected to stay has a price. In the end the gates are fixed; nodes and
    inputs behind closed ones are taken out, and open ones go into the weights. The result is an
    ordinary dense torch module.

    Parameters
    ----------
    estimator : nn.Module, estimator or None, default=None
        What to prune, as in :class:`SpectralRNNPruner`; a module that is given may be untrained.
    penalty_inputs : float, default=1e-5
        Price of a weight that reads an input or another layer, in the units of the loss; λ₁.
    penalty_nodes : float, default=1e-5
        Price of a weight by which a layer reads its own state; λ₂.
    initial_support : array-like of int, dict or None, default=None
        Nodes whose gates start open, those of others closed, such as the ``support_`` of a
        :class:`SpectralRNNPruner`; of several layers, a dict by their names. None starts all open.
    training : int or FineTune, default=20
        Epochs of training with gates, or how to train.
    gate_lr : float, default=0.1
        First learning rate of the gates. In few training steps they open and close if it is higher.
    finetune : int, FineTune or None, default=None
        Epochs of training after the gates are fixed.
    likelihood : {"auto", "categorical", "bernoulli", "gaussian"}, default="auto"
        Likelihood of the outputs, as in :class:`SpectralRNNPruner`.
    output : {"last", "mean", "sequence"}, default="last"
        What ``transform`` gives: the kept states of the last step, their mean over the
        steps, or all of them.
    batch_size : int, default=256
        Most sequences in one forward pass of ``transform``.
    device : str, torch.device or None, default=None
        Where the network runs; None leaves it where it is.
    memory : str, path, joblib.Memory or None, default=None
        Where trained networks are kept, as in :class:`SpectralRNNPruner`.
    random_state : int, RandomState or None, default=None
        Seed of the training; None is a seed like others, but for the training of
        ``estimator=None``.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The dense network: a copy of what was given, or what was trained.
    pruned_estimator_ : nn.Module or estimator
        The same with the smaller module.
    pruned_module_ : nn.Module
        The smaller torch module, in evaluation mode. It is called as the dense one is.
    support_ : ndarray of int, shape (m,)
        The kept nodes, ascending; of several layers, a dict by their names.
    ranking_ : ndarray of int, shape (n_nodes,)
        1 for the node most sure to stay, ``m_ + 1`` for those not kept.
    m_ : int
        Nodes kept.
    input_support_ : ndarray of int
        The inputs that are read; of several recurrent modules, a dict by their names.
    gate_history_ : dict of list
        Loss and penalty on the ``train`` and ``held_out`` sequences before the first and after
        every epoch with gates.
    fine_tuning_history_ : dict of list
        The loss alone, before and after every epoch without.
    layers_ : dict of GatedLayer
        Support and ranking of each layer by its name.
    n_parameters_ : int
        Parameters of the smaller module.
    n_features_in_ : int
        Size of the last axis of X.
    feature_names_in_ : ndarray of str
        Column names, when X has some.

    References
    ----------
    Wen et al., Structured Pruning of Recurrent Neural Networks through Neuron Selection, Neural
    Networks 2020.

    Examples
    --------
    >>> import torch
    >>> from skspectral import NeuronSelectionPruner, RNNClassifier
    >>> X = torch.randn(300, 8, 2, generator=torch.manual_seed(0))
    >>> y = X[:, :, 0].sum(dim=1).gt(0).long().numpy()  # the second input says nothing
    >>> dense = RNNClassifier(16, max_epochs=10, random_state=0).fit(X, y)
    >>> prices = {"penalty_inputs": 3e-3, "penalty_nodes": 3e-3}
    >>> pruner = NeuronSelectionPruner(dense, **prices, gate_lr=0.2).fit(X, y)
    >>> pruner.m_ < 12, pruner.input_support_
    (True, array([0]))
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        penalty_inputs: float = 1e-5,
        penalty_nodes: float = 1e-5,
        initial_support: ArrayLike | dict[str, ArrayLike] | None = None,
        training: int | FineTune = 20,
        gate_lr: float = 0.1,
        finetune: int | FineTune | None = None,
        likelihood: Family = "auto",
        output: Pooling = "last",
        batch_size: int = 256,
        device: str | torch.device | None = None,
        memory: Any = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.penalty_inputs = penalty_inputs
        self.penalty_nodes = penalty_nodes
        self.initial_support = initial_support
        self.training = training
        self.gate_lr = gate_lr
        self.finetune = finetune
        self.likelihood = likelihood
        self.output = output
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train gates and weights, and build the smaller network.

        Parameters
        ----------
        X : array-like, list, torch.Tensor, Dataset, DataLoader or iterable
            Sequences, as in :meth:`SpectralRNNPruner.fit`; an iterable yields lists or tuples
            ``[inputs, targets]``, as a ``DataLoader`` over labeled data does.
        y : array-like, default=None
            The target of every sequence, one for each or one for each of its steps.

        Returns
        -------
        NeuronSelectionPruner
            Itself.

        Raises
        ------
        ValueError
            If a parameter or a value of X or y cannot be used. The estimator is then as it
            was before.
        TypeError
            If a parameter or X is of a wrong type.
        """
        with self._commit_on_success(unfitted_copy(self)) as new:
            new._fit(X, y)
        return self

    def _fit(self, X: Any, y: Any) -> None:
        sequences = check_sequences(X, self, reset=True)
        self.estimator_ = fit_or_copy(self, X, y, memory_for(self.memory, sequences))
        sequences, labeled = labeled_data(self.estimator_, sequences, y)
        batch = labeled.take(labeled.groups[-1][:16])[0]
        if isinstance(sequences, Batches):
            self.n_features_in_ = sequences.n_features(batch)
        self._select(labeled, batch)

    def _select(self, labeled: LabeledSequences, batch: Any) -> None:
        """Select nodes by gates and build the smaller module."""
        module = split_layers(get_module(self.estimator_))
        collector = StateCollector(module, find_layers(module))
        seen = collector.run(batch)
        layers = tuple(layer for layer in collector.layers if layer.name in seen)
        arguments = collector.arguments(batch, whole=False)
        passes = [ForwardPass(*arguments)]
        readers = find_readers(module, layers, passes)
        check_followed(readers, layers)
        known = n_classes_of(self.estimator_, labeled.targets)
        likelihood = outputs_likelihood(collector, batch, self.likelihood, known)
        loss = task_loss(self.estimator_, likelihood)
        gated = Gated(copy_of(module), layers, readers, self._start(module, layers))
        gated.compensate()
        self._train(gated, SupervisedLoss(labeled, collector, loss), labeled)
        self._describe(gated)
        scaled, reductions, supports = gated.settled()
        small = Surgery(scaled, layers, readers, passes).build_checked(reductions)
        small = select_inputs(small, gated.first, supports, arguments)
        self.fine_tuning_history_ = fine_tuned(
            small, collector, labeled, loss, self.finetune, self._seed(), self.verbose
        )
        self._layout = collector.layout
        self._shown = output_layers(layers, module, layers[-1].host)
        self.pruned_module_ = merge_layers(small)
        self.pruned_estimator_ = replace_module(self.estimator_, self.pruned_module_)
        self.n_parameters_ = n_parameters(self.pruned_module_)

    def _train(self, gated: Gated, task: SupervisedLoss, labeled: LabeledSequences) -> None:
        """Train gates and weights together."""
        from ..training.trainer import train_in_place  # noqa: PLC0415  skorch is loaded when it trains

        settings = self._settings()
        self.gate_history_ = train_in_place(
            gated,
            [gated],
            L0PenalizedLoss(task, self.penalty_inputs, self.penalty_nodes),
            training_steps(labeled, settings, self._seed()),
            settings,
            what="gates",
            frozen=False,
            seed=self._seed(),
            verbose=self.verbose,
            rates=[("*log_alpha", {"lr": self.gate_lr})],
        )

    def _start(
        self, module: nn.Module, layers: Sequence[RecurrentLayer]
    ) -> Callable[[str | None, int], Tensor]:
        """Return a function from a layer's name (None for inputs) to initial gates."""
        generator = torch.Generator().manual_seed(self._seed())
        sizes = {layer.name: layer.of(module).hidden_size for layer in layers}
        supports = as_supports(self.initial_support, sizes)

        def start(name: str | None, n_gates: int) -> Tensor:
            log_alpha = 1.0 + 0.1 * torch.randn(n_gates, generator=generator)
            if name in supports:
                closed = np.setdiff1d(np.arange(n_gates), supports[name])
                log_alpha[torch.as_tensor(closed)] -= 4.0
            return log_alpha

        return start

    def _describe(self, gated: Gated) -> None:
        """Set the attributes that describe the selection."""
        nodes, inputs = gated.gates
        self.layers_ = {
            name: GatedLayer.of(gate.open().numpy(force=True), gate.log_alpha.numpy(force=True))
            for name, gate in nodes.items()
        }
        for attribute in ("support", "ranking", "m"):
            found = {name: getattr(layer, attribute) for name, layer in self.layers_.items()}
            setattr(self, f"{attribute}_", unwrap_single_layer(found))
        self.input_support_ = unwrap_single_layer(
            {host: gate.open().numpy(force=True) for host, gate in inputs.items()}
        )

    def _settings(self) -> FineTune:
        """Return the settings for training with gates."""
        settings = as_finetune(self.training, "training")
        if settings is None:
            raise ValueError(
                "training must be a number of epochs of at least 1, or a FineTune; got "
                f"{self.training!r}."
            )
        return settings

    def _check_params(self) -> None:
        check_estimator(self.estimator)
        for name in ("penalty_inputs", "penalty_nodes"):
            value = getattr(self, name)
            if not (is_number(value) and 0.0 <= value < np.inf):
                raise ValueError(f"{name} must be a number of at least 0; got {value!r}.")
        if not (is_number(self.gate_lr) and 0.0 < self.gate_lr < np.inf):
            raise ValueError(f"gate_lr must be a number above 0; got {self.gate_lr!r}.")
        for name, settings in (("training", self._settings()), ("finetune", self.finetune)):
            check_one_round(name, as_finetune(settings, name))
        check_choice("likelihood", self.likelihood, FAMILIES)
        check_choice("output", self.output, POOLINGS)
        check_count("batch_size", self.batch_size)
        check_device(self.device)
        as_memory(self.memory)


def check_one_round(name: str, settings: FineTune | None) -> None:
    """Refuse rounds: gates choose once."""
    if settings is not None and settings.n_rounds > 1:
        raise ValueError(
            f"n_rounds of {name} must be 1 in NeuronSelectionPruner, whose gates choose once; got "
            f"{settings.n_rounds}. Give it more max_epochs, or prune what came out once more."
        )
