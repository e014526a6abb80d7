"""Plain, slow references, written with loops and from the formulas."""

from itertools import combinations

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


# ``e`` is an error in what the gates read of the state.


def elman_step(act):
    def step(x, h, c, w_ih, w_hh, b_ih, b_hh, e=0.0):
        return act(w_ih @ x + b_ih + w_hh @ (h + e) + b_hh), c

    return step


def gru_step(x, h, c, w_ih, w_hh, b_ih, b_hh, e=0.0):
    reset_x, update_x, new_x = np.split(w_ih @ x + b_ih, 3)
    reset_h, update_h, new_h = np.split(w_hh @ (h + e) + b_hh, 3)
    reset, update = sigmoid(reset_x + reset_h), sigmoid(update_x + update_h)
    new = np.tanh(new_x + reset * new_h)
    return (1.0 - update) * new + update * h, c


def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh, e=0.0):
    gate_in, forget, cell, gate_out = np.split(w_ih @ x + b_ih + w_hh @ (h + e) + b_hh, 4)
    c = sigmoid(forget) * c + sigmoid(gate_in) * np.tanh(cell)
    return sigmoid(gate_out) * np.tanh(c), c


STEPS = {
    "RNN_TANH": elman_step(np.tanh),
    "RNN_RELU": elman_step(lambda x: np.maximum(x, 0.0)),
    "GRU": gru_step,
    "LSTM": lstm_step,
}


def layer_weights(rnn):
    """The four arrays of a torch layer, float64; missing biases are zero."""
    state = {name: value.double().numpy() for name, value in rnn.state_dict().items()}
    zero = np.zeros(len(state["weight_hh_l0"]))
    w_ih, w_hh = state["weight_ih_l0"], state["weight_hh_l0"]
    return w_ih, w_hh, state.get("bias_ih_l0", zero), state.get("bias_hh_l0", zero)


def run_cell(mode, weights, x, errors=None):
    """States (n_sequences, n_steps, n_nodes) of x (n_sequences, n_steps, n_features)."""
    n_nodes = weights[1].shape[1]
    states = np.empty((*x.shape[:2], n_nodes))
    errors = np.zeros_like(states) if errors is None else errors
    for i, sequence in enumerate(x):
        h, c = np.zeros(n_nodes), np.zeros(n_nodes)
        for t, features in enumerate(sequence):
            h, c = STEPS[mode](features, h, c, *weights, errors[i, t])
            states[i, t] = h
    return states


def run_layer(rnn, x):
    return run_cell(rnn.mode, layer_weights(rnn), np.asarray(x, dtype=np.float64))


def fold(mode, weights, support, A, c):
    """Weights of the small layer: rows J of every gate block, ``W_hh A`` and ``b + W_hh c``."""
    w_ih, w_hh, b_ih, b_hh = weights
    n_nodes = w_hh.shape[1]
    rows = [gate * n_nodes + node for gate in range(len(w_hh) // n_nodes) for node in support]
    return w_ih[rows], w_hh[rows] @ A, b_ih[rows], b_hh[rows] + w_hh[rows] @ c


def second_moment(sequences):
    """Σ and μ by a loop over sequences and steps."""
    n_nodes, n_steps = sequences[0].shape[1], 0
    products, total = np.zeros((n_nodes, n_nodes)), np.zeros(n_nodes)
    for sequence in sequences:
        for state in sequence:
            products += np.outer(state, state)
            total += state
            n_steps += 1
    return products / n_steps, total / n_steps


def residual(covariance, ridge, support):
    """``E_J``."""
    support = list(support)
    if not support:
        return covariance
    columns = covariance[:, support]
    kept = covariance[np.ix_(support, support)] + np.diag(ridge[support])
    return covariance - columns @ np.linalg.pinv(kept, rcond=1e-11, hermitian=True) @ columns.T


def direct_loss(problem, support):
    """``Tr(Q E_J)``."""
    return np.trace(problem.weight @ residual(problem.covariance, problem.ridge, support))


def best_support(problem, m):
    """The support of least loss among all of m nodes."""
    supports = combinations(range(problem.n_nodes), m)
    return min(supports, key=lambda support: direct_loss(problem, support))


def direct_backward(problem, m):
    """The node whose loss costs least, until m are left, each candidate evaluated anew."""
    kept = set(range(problem.n_nodes))
    while len(kept) > m:
        kept.remove(min(kept, key=lambda node: direct_loss(problem, sorted(kept - {node}))))
    return sorted(kept)


def direct_greedy(problem, m):
    """The node of least loss, m times, each candidate evaluated anew."""
    order = []
    for _ in range(m):
        others = [node for node in range(problem.n_nodes) if node not in order]
        order.append(min(others, key=lambda node: direct_loss(problem, [*order, node])))
    return order
