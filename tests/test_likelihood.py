"""What answers stand for, and divergences beside their definitions."""

import numpy as np
import pytest
import torch
from networks import collector_of
from scipy.special import expit, softmax
from scipy.stats import entropy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skspectral import SpectralRNNPruner
from skspectral.calibration.sensitivity import outputs_likelihood
from skspectral.rnn.losses.likelihood import Likelihood, likelihood_of, primary_output

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
    score = likelihood.random_projection(outputs, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(score, logits)
    expected = np.eye(3) - (family == "categorical") / 3
    np.testing.assert_allclose(gradient.T @ gradient / 20000, expected, atol=0.03)


@pytest.mark.parametrize(
    ("outputs", "n_classes", "expected"),
    [
        (LOGITS, 2, Likelihood("categorical")),
        (LOGITS, None, Likelihood("gaussian")),
        (LOGITS, 0, Likelihood("gaussian")),
        (LOGITS.softmax(-1), None, Likelihood("categorical", True)),
        (LOGITS.softmax(-1), 2, Likelihood("categorical", True)),
        (LOGITS.softmax(-1), 0, Likelihood("gaussian")),
        (LOGITS.log_softmax(-1), None, Likelihood("categorical")),
        (ONE.sigmoid(), None, Likelihood("bernoulli", True)),
        (ONE.sigmoid(), 0, Likelihood("gaussian")),
        (ONE, 2, Likelihood("bernoulli")),
        (ONE[:, 0].sigmoid(), 2, Likelihood("bernoulli", True)),
        (ONE, None, Likelihood("gaussian")),
        (LOGITS, 3, Likelihood("categorical")),
        (ONE, 3, Likelihood("gaussian")),
        (ONE.sigmoid(), 3, Likelihood("gaussian")),
    ],
)
def test_what_outputs_stand_for_is_known_by_their_values(outputs, n_classes, expected):
    assert likelihood_of(outputs, "auto", n_classes) == expected


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
    assert primary_output((torch.tensor([1]), {"logits": LOGITS, "state": OTHER})) is LOGITS
    with pytest.raises(ValueError, match="returns no tensor of floating numbers"):
        primary_output(torch.tensor([1]))


# Where answers come from


def each_step(answer):
    """A module's answers, computed step by step into a tensor made before."""

    def read(net, x):
        states = net.rnn(x)[0]
        answers = torch.empty(states.shape[:2])
        for step in range(states.shape[1]):
            answers[:, step] = answer(net.head(states[:, step]))[:, 0]
        return answers[..., None]

    return read


def masked(net, x):
    mask = torch.ones(x.shape[:2])
    mask[0, 3:] = 0.0
    return net.head(net.rnn(x)[0]).sigmoid() * mask[..., None]


READ = {
    "nn.Sigmoid": lambda net, x: nn.Sigmoid()(net.head(net.rnn(x)[0])),
    "method": lambda net, x: net.head(net.rnn(x)[0][:, -1]).sigmoid().squeeze(-1),
    "in place": lambda net, x: net.head(net.rnn(x)[0][:, -1]).sigmoid_(),
    "mean over steps": lambda net, x: torch.sigmoid(net.head(net.rnn(x)[0])).mean(1),
    "the other case": lambda net, x: 1.0 - torch.sigmoid(net.head(net.rnn(x)[0])),
    "step by step": each_step(torch.sigmoid),
    "stacked": lambda net, x: torch.stack([net.head(s).sigmoid() for s in net.rnn(x)[0].unbind(1)]),
    "masked": masked,
    "one of two classes": lambda net, x: net.pair(net.rnn(x)[0][:, -1]).softmax(-1)[:, 1],
}
NUMBERS = {
    "linear": lambda net, x: net.head(net.rnn(x)[0][:, -1]),
    "linear, step by step": each_step(lambda z: z),
    "clamped": lambda net, x: net.head(net.rnn(x)[0]).clamp(0.0, 1.0),
    "scaled": lambda net, x: 0.5 * net.head(net.rnn(x)[0]).sigmoid() * net.scale,
    "gated": lambda net, x: net.head(net.rnn(x)[0]).sigmoid() * net.head(net.rnn(x)[0]),
    "tanh": lambda net, x: net.head(net.rnn(x)[0]).tanh(),
}


class Head(nn.Module):
    """Answers that lie in (0, 1), whatever is done with them."""

    def __init__(self, read):
        super().__init__()
        self.read, self.rnn = read, nn.GRU(2, 5, batch_first=True)
        self.head, self.pair = nn.Linear(5, 1), nn.Linear(5, 2)
        self.scale = nn.Parameter(torch.tensor(0.9))
        with torch.no_grad():
            self.head.weight *= 0.1
            self.head.bias.fill_(0.5)

    def forward(self, x):
        return self.read(self, x)


def told(read, family="auto", n_classes=None):
    net = Head(read).eval()
    collector, batch = collector_of(net), np.zeros((4, 6, 2), dtype=np.float32)
    with torch.no_grad():
        answers = net(torch.as_tensor(batch))
    assert ((answers >= 0.0) & (answers <= 1.0)).all()
    return outputs_likelihood(collector, batch, family, n_classes)


@pytest.mark.parametrize("read", READ)
def test_what_comes_from_a_sigmoid_is_a_probability(read):
    assert told(READ[read]) == Likelihood("bernoulli", True)
    assert told(READ[read], n_classes=2) == Likelihood("bernoulli", True)
    assert told(READ[read], n_classes=0) == Likelihood("gaussian")


@pytest.mark.parametrize("read", NUMBERS)
def test_a_regression_between_zero_and_one_is_one_of_numbers(read):
    assert told(NUMBERS[read]) == Likelihood("gaussian")


@pytest.mark.parametrize("given", [{"n_classes": 2}, {"family": "bernoulli"}])
def test_logits_that_happen_to_lie_between_zero_and_one_are_logits(given):
    assert told(NUMBERS["linear"], **given) == Likelihood("bernoulli")
    assert told(NUMBERS["linear, step by step"], **given) == Likelihood("bernoulli")
    assert told(lambda net, x: 1.0 / (1.0 + (-NUMBERS["linear"](net, x)).exp()), **given) == (
        Likelihood("bernoulli", True)
    )


def test_answers_of_unknown_origin_are_known_by_their_values():
    def read(net, x):
        with torch._C.DisableTorchFunction():  # as within a compiled part
            return net.head(net.rnn(x)[0]).sigmoid()

    assert told(read) == Likelihood("bernoulli", True)


def test_classes_are_known_whatever_they_come_from():
    def read(net, x):
        powers = net.pair(net.rnn(x)[0][:, -1]).exp()
        return powers / powers.sum(-1, keepdim=True)

    assert told(read) == Likelihood("categorical", True)
    assert told(lambda net, x: net.pair(net.rnn(x)[0]).softmax(-1)) == (
        Likelihood("categorical", True)
    )


class Optional(nn.Module):
    """Logits of two classes, of sequences that may bring their lengths."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x, lengths=None):
        return self.head(self.rnn(x)[0][:, -1])


class Required(Optional):
    def forward(self, x):
        return super().forward(x)


class One(Optional):
    def forward(self, x):
        return 4.0 * super().forward(x)[:, :1]


SEQUENCES = torch.randn(32, 5, 3, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(32) % 2


@pytest.mark.parametrize(
    ("kind", "batches", "expected"),
    [
        (Required, [[SEQUENCES, CLASSES]], "categorical"),
        (Required, [[SEQUENCES, CLASSES.numpy()]], "categorical"),
        (Required, [[SEQUENCES, CLASSES.tolist()]], "categorical"),
        (Required, DataLoader(TensorDataset(SEQUENCES, CLASSES), 8), "categorical"),
        (Required, iter([[SEQUENCES, CLASSES]]), "categorical"),
        (Required, [[SEQUENCES, CLASSES.float()]], "gaussian"),
        (Required, [{"x": SEQUENCES, "tags": CLASSES}], "categorical"),
        (Required, [{"x": SEQUENCES}], "gaussian"),
        (Required, [[SEQUENCES]], "gaussian"),
        (Required, [(SEQUENCES,)], "gaussian"),
        (One, [[SEQUENCES, CLASSES]], "bernoulli"),
        (One, [[SEQUENCES, CLASSES - 101 * (CLASSES == 1)]], "bernoulli"),
        (One, [[SEQUENCES, torch.arange(32)]], "gaussian"),
        (Optional, [[SEQUENCES, torch.full((32,), 5)]], "gaussian"),
        (Optional, [[SEQUENCES, torch.full((32,), 5), CLASSES]], "categorical"),
        (Optional, [{"x": SEQUENCES, "lengths": torch.full((32,), 5)}], "gaussian"),
    ],
)
def test_batches_with_class_labels_say_that_outputs_are_classes(kind, batches, expected):
    torch.manual_seed(0)
    module = kind().eval()
    options = {"m": 4, "trajectory_fit": 0, "n_refit": 0, "objective": "one-step"}
    found = SpectralRNNPruner(module, **options).fit(batches)
    with torch.no_grad():
        pair = module(SEQUENCES), found.pruned_module_(SEQUENCES)
    far = {
        "categorical": Likelihood("categorical").divergence(*pair).mean(),
        "bernoulli": Likelihood("bernoulli").divergence(*pair).mean(),
        "gaussian": (pair[0] - pair[1]).square().mean() / pair[0].var(correction=0),
    }
    others = [value.item() for name, value in far.items() if name != expected]
    assert all(far[expected].item() != pytest.approx(other, rel=0.5) for other in others)
    assert found.divergence_ == pytest.approx(far[expected].item(), rel=0.5)
