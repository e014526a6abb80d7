"""What answers stand for, and divergences beside their definitions."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import entropy

from skspectral.rnn.likelihood import Likelihood, answer_of, likelihood_of

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], dtype=torch.float64)
OTHER = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 2.0, 2.0]], dtype=torch.float64)
ONE = LOGITS[:, :1]


def test_divergence_of_classes_is_that_of_their_probabilities():
    expected = [
        entropy(softmax(p), softmax(q)) for p, q in zip(LOGITS.numpy(), OTHER.numpy(), strict=True)
    ]
    for given, likelihood in [
        ((LOGITS, OTHER), Likelihood("categorical")),
        ((LOGITS.softmax(-1), OTHER.softmax(-1)), Likelihood("categorical", True)),
        ((LOGITS.log_softmax(-1), OTHER.log_softmax(-1)), Likelihood("categorical")),
    ]:
        np.testing.assert_allclose(likelihood.divergence(*given), expected, rtol=1e-9)


def test_divergence_of_yes_or_no_is_that_of_its_two_cases():
    p, q = expit(LOGITS.numpy()), expit(OTHER.numpy())
    expected = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    for given, likelihood in [
        ((LOGITS, OTHER), Likelihood("bernoulli")),
        ((LOGITS.sigmoid(), OTHER.sigmoid()), Likelihood("bernoulli", True)),
    ]:
        np.testing.assert_allclose(likelihood.divergence(*given), expected, rtol=1e-9)


def test_divergence_of_numbers_is_half_the_squared_error():
    found = Likelihood("gaussian").divergence(LOGITS, OTHER)
    np.testing.assert_allclose(found, 0.5 * (LOGITS - OTHER).numpy() ** 2)


@pytest.mark.parametrize("family", ["categorical", "bernoulli"])
def test_certain_probabilities_have_a_finite_divergence(family):
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = Likelihood(family, probabilities=True).divergence(certain, 1.0 - certain)
    assert torch.isfinite(found).all()
    assert (found > 50.0).all()


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize("family", ["categorical", "bernoulli"])
def test_divergence_in_single_precision_is_that_in_double_and_never_negative(family, scale):
    likelihood, generator = Likelihood(family), torch.Generator().manual_seed(0)
    logits = 5.0 * torch.randn(500, 10, generator=generator)
    other = logits + scale * torch.randn(500, 10, generator=generator)
    found = likelihood.divergence(logits, other)
    assert (found >= 0.0).all()
    exact = likelihood.divergence(logits.double(), other.double())
    np.testing.assert_allclose(found.double().sum(), exact.sum(), rtol=1e-3)
    assert (likelihood.divergence(logits, logits) == 0.0).all()


@pytest.mark.parametrize("scale", [0.1, 100.0])
@pytest.mark.parametrize("family", ["categorical", "bernoulli"])
def test_the_gradient_of_a_divergence_is_the_difference_of_the_probabilities(family, scale):
    logits, other = scale * LOGITS, (scale * OTHER).requires_grad_()
    Likelihood(family).divergence(logits, other).sum().backward()
    mean = {"categorical": lambda z: z.softmax(-1), "bernoulli": torch.sigmoid}[family]
    np.testing.assert_allclose(other.grad, (mean(other) - mean(logits)).detach(), atol=1e-12)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("family", ["categorical", "bernoulli", "gaussian"])
def test_projections_have_every_direction_that_says_something(family, probabilities):
    """Their gradients by the logits average to the identity; of classes, without the mean."""
    likelihood = Likelihood(family, probabilities and family != "gaussian")
    logits = LOGITS[:1].repeat(20000, 1).requires_grad_()
    as_probabilities = {"categorical": lambda z: z.softmax(-1), "bernoulli": torch.sigmoid}
    outputs = as_probabilities[family](logits) if likelihood.probabilities else logits
    score = likelihood.projected(outputs, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(score, logits)
    expected = np.eye(3) - (family == "categorical") / 3
    np.testing.assert_allclose(gradient.T @ gradient / 20000, expected, atol=0.03)


@pytest.mark.parametrize(
    ("outputs", "classifies", "expected"),
    [
        (LOGITS, True, Likelihood("categorical")),
        (LOGITS, None, Likelihood("gaussian")),
        (LOGITS, False, Likelihood("gaussian")),
        (LOGITS.softmax(-1), None, Likelihood("categorical", True)),
        (LOGITS.softmax(-1), True, Likelihood("categorical", True)),
        (LOGITS.softmax(-1), False, Likelihood("gaussian")),
        (LOGITS.log_softmax(-1), None, Likelihood("categorical")),
        (ONE.sigmoid(), None, Likelihood("bernoulli", True)),
        (ONE.sigmoid(), False, Likelihood("gaussian")),
        (ONE, True, Likelihood("bernoulli")),
        (ONE[:, 0].sigmoid(), True, Likelihood("bernoulli", True)),
        (ONE, None, Likelihood("gaussian")),
    ],
)
def test_what_outputs_stand_for_is_known_by_their_values(outputs, classifies, expected):
    assert likelihood_of(outputs, "auto", classifies) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_known_and_compared_in_single(dtype):
    outputs = LOGITS.softmax(-1).to(dtype)
    likelihood = likelihood_of(outputs)
    assert likelihood == Likelihood("categorical", True)
    found = likelihood.divergence(outputs, OTHER.softmax(-1).to(dtype))
    assert found.dtype == torch.float32
    expected = Likelihood("categorical").divergence(LOGITS, OTHER)
    np.testing.assert_allclose(found, expected, rtol=0.05)


@pytest.mark.parametrize("family", ["categorical", "bernoulli", "gaussian"])
def test_a_family_that_is_given_is_taken(family):
    assert likelihood_of(LOGITS, family) == Likelihood(family)


def test_the_answer_is_the_first_floating_tensor():
    assert answer_of((torch.tensor([1]), {"logits": LOGITS, "state": OTHER})) is LOGITS
    with pytest.raises(ValueError, match="returns no tensor of floating numbers"):
        answer_of(torch.tensor([1]))
