"""Likelihood of labels given the outputs of a network, and divergence between two networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..outputs import tensors
from ..tracing.origins import LINEAR, OTHER

Family = Literal["auto", "bernoulli", "categorical", "gaussian"]
FAMILIES = get_args(Family)
BLOCK = 2**18  # logits compared at once, so that what is in between stays in the CPU cache


@dataclass(frozen=True)
class Likelihood:
    """Distribution of the labels that the outputs of a network parametrize.

    Parameters
    ----------
    family : {"categorical", "bernoulli", "gaussian"}
        Classes along the last axis, a binary label for each output, or numbers with the outputs
        as their means and a variance of one.
    probabilities : bool
        Whether the outputs are probabilities rather than logits.
    """

    family: str
    probabilities: bool = False

    def divergence(self, dense: Tensor, pruned: Tensor) -> Tensor:
        """Return the KL divergence between the label distributions of two networks.

        Parameters
        ----------
        dense, pruned : Tensor of shape (n_sequences, ...)
            Outputs of both networks; (n_sequences, ..., n_classes) for classes.

        Returns
        -------
        Tensor of shape (n_sequences, ...)
            Divergence of every label, in nats.
        """
        return self.divergence_from(dense)(pruned)

    def divergence_from(self, dense: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function that computes the divergence of other outputs from fixed ones."""
        fixed = self._natural(dense)
        if self.family == "categorical":
            apply: Callable[..., Tensor] = ClassDivergence.apply
            return lambda pruned: apply(fixed, self._natural(pruned))
        if self.family == "bernoulli":
            return lambda pruned: bernoulli_divergence(fixed, self._natural(pruned))
        return lambda pruned: 0.5 * (fixed - self._natural(pruned)).square()

    def negative_log_likelihood(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of labels, in nats, up to a constant.

        Parameters
        ----------
        outputs : Tensor of shape (n_sequences, ...)
            Outputs of a network; (n_sequences, ..., n_classes) for classes.
        labels : Tensor of shape (n_sequences, ...)
            Class indices, zeros and ones, or numbers, depending on the family.

        Raises
        ------
        ValueError
            If the labels do not match the outputs.
        """
        natural = self._natural(outputs)
        classes = self.family == "categorical"
        expected = natural.shape[:-1] if classes else natural.shape
        if labels.numel() != expected.numel():
            raise ValueError(
                f"y has targets of shape {tuple(labels.shape)} where the network puts out "
                f"{tuple(natural.shape)} ({self.family}); give a target for each, or likelihood= "
                "if the outputs have another meaning."
            )
        if classes:
            check_classes(labels, natural.shape[-1])
            return F.cross_entropy(natural.flatten(0, -2), labels.flatten())
        labels = labels.reshape(expected).to(natural)
        if self.family == "bernoulli":
            check_cases(labels)
            return F.binary_cross_entropy_with_logits(natural, labels)
        return 0.5 * F.mse_loss(natural, labels)

    def random_projection(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return a differentiable random projection of logits or numbers.

        For classes, the mean of the logits is left out, since softmax does not depend on it.
        """
        natural = self._natural(outputs)
        direction = torch.randn(natural.shape, generator=generator).to(natural)
        if self.family == "categorical":
            direction -= direction.mean(-1, keepdim=True)
        return torch.dot(direction.flatten(), natural.flatten())

    def _natural(self, outputs: Tensor) -> Tensor:
        """Return the outputs as logits, or unchanged if they are numbers."""
        if torch.finfo(outputs.dtype).bits < 32:
            outputs = outputs.float()
        if not self.probabilities:
            return outputs
        smallest = torch.finfo(outputs.dtype).tiny
        if self.family == "categorical":
            return outputs.clamp_min(smallest).log()
        return outputs.clamp_min(smallest).log() - (1.0 - outputs).clamp_min(smallest).log()


class ClassDivergence(torch.autograd.Function):
    """KL divergence of classes from logits, whose gradient is the difference of probabilities.

    Rows are taken a block at a time, so that what is in between stays in the CPU cache.
    """

    @staticmethod
    def forward(ctx: Any, dense: Tensor, pruned: Tensor) -> Tensor:
        """Return the divergence of every label."""
        if dense.shape != pruned.shape:
            raise ValueError(f"outputs of shape {tuple(pruned.shape)}, not {tuple(dense.shape)}")
        ctx.save_for_backward(dense, pruned)
        pairs = zip(blocks(dense), blocks(pruned), strict=True)
        found = [cases(p.log_softmax(-1), q.log_softmax(-1)).sum(-1) for p, q in pairs]
        return torch.cat(found).reshape(dense.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """Return the gradient of the logits of the pruned network."""
        dense, pruned = ctx.saved_tensors
        found = torch.empty_like(pruned, memory_format=torch.contiguous_format)
        scales = blocks(gradients[0].expand(dense.shape[:-1])[..., None], dense.shape[-1])
        every = zip(blocks(found), blocks(dense), blocks(pruned), scales, strict=True)
        for rows, p, q, scale in every:
            rows.copy_(q.softmax(-1)).sub_(p.softmax(-1)).mul_(scale)
        return None, found


def blocks(values: Tensor, n_classes: int | None = None) -> tuple[Tensor, ...]:
    """Return the rows of an array, split into blocks of one number of rows."""
    n_rows = max(1, BLOCK // (n_classes or values.shape[-1]))
    return values.reshape(-1, values.shape[-1]).split(n_rows)


def check_classes(labels: Tensor, n_classes: int) -> None:
    """Raise if labels are not class indices."""
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"y must hold class numbers from 0 to {n_classes - 1}, since the network has "
            f"{n_classes} classes; got {labels.dtype} from {labels.min()} to {labels.max()}. Label "
            "steps of padding -100."
        )


def check_cases(labels: Tensor) -> None:
    """Raise if labels are not from 0 to 1."""
    if labels.min() < 0.0 or labels.max() > 1.0:
        raise ValueError(
            "y must hold 0 and 1, since the outputs of the network stand for yes or no "
            f"(bernoulli); got {labels.min():g} to {labels.max():g}. For numbers, give "
            "likelihood='gaussian'."
        )


def bernoulli_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return the KL divergence of binary labels, from logits."""
    yes, no = ((F.logsigmoid(sign * p), F.logsigmoid(sign * q)) for sign in (1.0, -1.0))
    return cases(*yes) + cases(*no)


def cases(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the terms ``q − p − p (log q − log p)`` of a KL divergence, from logarithms.

    The parts ``q − p`` cancel in the sum. They make every term nonnegative, and rounding errors of
    the logarithms enter only squared if the distributions are close.
    """
    p, difference = log_p.exp(), log_q - log_p
    near = difference.clamp(-1.0, 1.0)
    close = p * (near.expm1() - near).clamp_min(0.0)
    return torch.where(near == difference, close, log_q.exp() - p - p * difference)


def likelihood_of(
    outputs: Tensor,
    family: str = "auto",
    n_classes: int | None = None,
    origin: str | None = None,
) -> Likelihood:
    """Return the likelihood that fits the outputs of a network.

    Outputs that sum to one along the last axis are distributions over classes. Values in [0, 1]
    are not always probabilities, since those of a regression may lie there too. They count as
    probabilities if they come from a sigmoid or softmax or their origin is not known, or if the
    family is given or the network is a classifier, and they do not come from a linear map. Other
    outputs are logits if the network is known to be a classifier, and numbers otherwise. A single
    output can tell two classes apart; more are taken for whole numbers, such as counts.

    Parameters
    ----------
    outputs : Tensor
        Outputs of the network.
    family : str
        The family, or ``"auto"`` to infer it.
    n_classes : int or None
        Number of classes, 0 if the network is no classifier; None if that is not known.
    origin : str or None
        Origin of the outputs, as ``Origins`` reports it.
    """
    several = outputs.ndim > 1 and outputs.shape[-1] > 1
    classifies = None if n_classes is None else n_classes > 0 and (several or n_classes <= 2)
    in_range = bool(((outputs >= 0.0) & (outputs <= 1.0)).all())
    distribution = several and in_range and sums_to_one(outputs)
    if origin == LINEAR or (origin == OTHER and family == "auto" and not classifies):
        in_range = False
    if family == "auto":
        if classifies is None:
            log_distribution = several and sums_to_one(outputs.exp())
            family = "categorical" if distribution or log_distribution else "bernoulli"
            classifies = in_range or distribution or log_distribution
        else:
            family = "categorical" if several else "bernoulli"
        family = family if classifies else "gaussian"
    probable = {"categorical": distribution, "bernoulli": in_range, "gaussian": False}
    return Likelihood(family, probable[family])


def sums_to_one(values: Tensor) -> bool:
    """Return whether values sum to one along the last axis, within the precision of their dtype."""
    missing = 1.0 - values.double().sum(-1)
    return bool((missing.abs() <= max(1e-3, 4.0 * torch.finfo(values.dtype).eps)).all())


def primary_output(output: Any) -> Tensor:
    """Return the first floating-point tensor in the result of ``forward``.

    Raises
    ------
    ValueError
        If there is none.
    """
    for value in tensors(output):
        if value.is_floating_point():
            return value
    raise ValueError(
        "forward of estimator returns no tensor of floating numbers, so its outputs cannot be "
        "compared; give a module that returns logits, probabilities or numbers, or "
        "objective='one-step'."
    )
