"""The recipes of the page on other frameworks, beside the equations of these."""

import doctest
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

PAGE = Path(__file__).parents[1] / "docs" / "user_guide" / "other_frameworks.rst"
N_INPUTS, N_UNITS = 3, 5
X = np.random.default_rng(0).normal(size=(4, 7, N_INPUTS)).astype("float32")


@pytest.fixture(scope="module")
def page():
    """Return what the page defines, after checking that its examples give what they say."""
    pytest.importorskip("onnxruntime")
    examples = doctest.DocTestParser().get_doctest(PAGE.read_text(), {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(examples, clear_globs=False).failed == 0
    return examples.globs


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.5, shape).astype("float32") for shape in shapes]


def keras_weights(kind, seed):
    n_gates, bias = {"lstm": (4, (20,)), "gru": (3, (2, 15)), "rnn": (1, (5,))}[kind]
    return draw(seed, (N_INPUTS, n_gates * N_UNITS), (N_UNITS, n_gates * N_UNITS), bias)


def keras_states(kind, kernel, recurrent_kernel, bias, x):
    """States at every step, by the equations of Keras."""
    h = c = np.zeros((len(x), N_UNITS))
    states = []
    for step in x.swapaxes(0, 1):
        if kind == "gru":
            x_z, x_r, x_h = np.split(step @ kernel + bias[0], 3, axis=1)
            h_z, h_r, h_h = np.split(h @ recurrent_kernel + bias[1], 3, axis=1)
            z, r = expit(x_z + h_z), expit(x_r + h_r)
            h = z * h + (1 - z) * np.tanh(x_h + r * h_h)
        elif kind == "lstm":
            gates = step @ kernel + h @ recurrent_kernel + bias
            i, f, new, o = np.split(gates, 4, axis=1)
            c = expit(f) * c + expit(i) * np.tanh(new)
            h = expit(o) * np.tanh(c)
        else:
            h = np.tanh(step @ kernel + h @ recurrent_kernel + bias)
        states.append(h)
    return np.stack(states, axis=1)


def assert_gives(layer, states):
    with torch.no_grad():
        np.testing.assert_allclose(layer(torch.from_numpy(X))[0], states, atol=1e-5)


LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def from_keras(page, kind, weights):
    return page["from_keras_gru" if kind == "gru" else "from_keras_lstm"](*weights)


@pytest.mark.parametrize("kind", LAYERS)
def test_keras(page, kind):
    weights = keras_weights(kind, 0)
    layer = page["torch_layer"](LAYERS[kind], from_keras(page, kind, weights), batch_first=True)
    assert_gives(layer, keras_states(kind, *weights, X))


@pytest.mark.parametrize("kind", LAYERS)
def test_keras_in_both_directions(page, kind):
    there, back = (keras_weights(kind, seed) for seed in (0, 1))
    both = (from_keras(page, kind, weights) for weights in (there, back))
    layer = page["torch_layer"](LAYERS[kind], *both, batch_first=True)
    turned = keras_states(kind, *back, X[:, ::-1])[:, ::-1]
    assert_gives(layer, np.concatenate([keras_states(kind, *there, X), turned], axis=-1))


@pytest.mark.parametrize(("kind", "order"), [("lstm", (0, 1, 2, 3)), ("gru", (1, 0, 2))])
def test_cudnn(page, kind, order):
    n_gates = len(order)
    shapes = (N_INPUTS, n_gates * N_UNITS), (N_UNITS, n_gates * N_UNITS), 2 * n_gates * N_UNITS
    kernel, recurrent_kernel, bias = draw(0, *shapes)
    weights = page["from_cudnn"](order, kernel, recurrent_kernel, bias)
    layer = page["torch_layer"](LAYERS[kind], weights, batch_first=True)
    # As Keras 2 converts them when it reads a file.
    in_keras = (
        np.hstack([each.T.reshape(each.shape, order="F") for each in np.hsplit(stored, n_gates)])
        for stored in (kernel, recurrent_kernel)
    )
    biases = bias.reshape(2, -1)
    bias = biases if kind == "gru" else biases.sum(0)
    assert_gives(layer, keras_states(kind, *in_keras, bias, X))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_onnx_gives_back_what_torch_has_exported(page, kind, bidirectional):
    onnx = pytest.importorskip("onnx")
    layer = LAYERS[kind](N_INPUTS, N_UNITS, bidirectional=bidirectional)
    file = io.BytesIO()
    with warnings.catch_warnings():  # of what the exporter itself uses
        warnings.simplefilter("ignore")
        torch.onnx.export(layer, (torch.from_numpy(X),), file, dynamo=False)
    model = onnx.load_from_string(file.getvalue())
    (node,) = (each for each in model.graph.node if each.op_type in page["ORDER"])
    again = page["layer_of"](model, node)
    for one, other in zip(again.parameters(), layer.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("GRU", {}),
        ("GRU", {"linear_before_reset": 1, "activations": ["HardSigmoid", "Tanh"]}),
        ("LSTM", {"clip": 1.0}),
        ("RNN", {"activations": ["Relu"]}),
    ],
)
def test_what_torch_does_not_have_is_refused(page, op, attributes):
    rows = len(page["ORDER"][op]) * N_UNITS
    weights = draw(0, (1, rows, N_INPUTS), (1, rows, N_UNITS), (1, 2 * rows))
    model = page["onnx_model"](op, *weights, **attributes)
    with pytest.raises(ValueError, match=r"torch has no GRU|look at the options"):
        page["layer_of"](model, model.graph.node[0])
