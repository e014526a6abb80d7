"""Statements of the theory, each against what happens in simulation."""

from itertools import pairwise

import numpy as np
import pytest
from problems import random_problem

from skspectral.theory import (
    Guarantee,
    certified_lam,
    degrees_of_freedom,
    generalization_gap,
    lam_of,
    leverage_scores,
    propagated_errors,
    sufficient_nodes,
)
from skspectral.theory.generalization import lipschitz_in_weights

N_DRAWS = 200


def decaying(n_nodes, rate, seed=0):
    """A covariance whose eigenvalues fall by a rate, in a random basis."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(n_nodes, n_nodes)))[0]
    return (basis * rate ** np.arange(n_nodes)) @ basis.T


def grouped(n_groups, size, noise=1e-4):
    """A covariance of groups of nodes that nearly say the same: one of each has to be drawn."""
    same = np.kron(np.eye(n_groups), np.ones((size, size)))
    return same + noise * np.eye(n_groups * size)


COVARIANCES = {"decaying": decaying(60, 0.3), "grouped": grouped(5, 12)}


def drawn_residual(covariance, lam, n_draws, rng):
    """``E_J`` of a multiset drawn by leverage scores, with the ridge of the theorem."""
    scores = leverage_scores(covariance, lam)
    share = scores / scores.sum()
    nodes = rng.choice(len(share), size=n_draws, p=share)
    columns = covariance[:, nodes]
    kept = columns[nodes] + np.diag(lam * n_draws * share[nodes])
    return covariance - columns @ np.linalg.solve(kept, columns.T)


def at_most(matrix, other):
    """Whether ``matrix ⪯ other``."""
    return np.linalg.eigvalsh(other - matrix)[0] > -1e-10


# Degrees of freedom and leverage scores


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e3])
def test_degrees_of_freedom_are_the_trace_of_the_smoother(lam):
    covariance = random_problem(0).covariance
    smoother = np.linalg.solve(covariance + lam * np.eye(10), covariance)
    assert degrees_of_freedom(covariance, lam) == pytest.approx(np.trace(smoother), rel=1e-9)
    assert leverage_scores(covariance, lam).sum() == pytest.approx(np.trace(smoother), rel=1e-9)


def test_degrees_of_freedom_fall_from_the_rank_to_zero():
    covariance = random_problem(0, rank=4).covariance
    freedom = degrees_of_freedom(covariance, [0.0, 1e-3, 1.0, 1e3, 1e12])
    assert freedom[0] == 4.0
    assert (np.diff(freedom) < 0.0).all()
    assert freedom[-1] < 1e-6


@pytest.mark.parametrize("freedom", [0.01, 1.0, 2.5, 7.0, 9.999])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_lam_is_found_for_any_degrees_of_freedom(freedom, scale):
    covariance = scale * random_problem(1).covariance
    lam = lam_of(covariance, freedom)
    assert degrees_of_freedom(covariance, lam) == pytest.approx(freedom, rel=1e-9)


@pytest.mark.parametrize("lam", [-1.0, float("nan")])
def test_a_negative_lam_is_refused(lam):
    for function in (degrees_of_freedom, leverage_scores):
        with pytest.raises(ValueError, match="lam must be a number of at least 0; got"):
            function(np.eye(3), lam)


@pytest.mark.parametrize("freedom", [0, -1.0, float("nan")])
def test_degrees_of_freedom_that_no_lam_has_are_refused(freedom):
    with pytest.raises(ValueError, match="freedom must be a number above 0; got"):
        lam_of(np.eye(3), freedom)


@pytest.mark.parametrize(
    ("covariance", "fault"),
    [
        (np.ones(3), r"of shape \(n_nodes, n_nodes\); got shape \(3,\)"),
        (np.ones((2, 3)), r"of shape \(n_nodes, n_nodes\); got shape \(2, 3\)"),
        ([[1.0, 5.0], [0.0, 1.0]], "symmetric"),
        ([[1.0, np.nan], [np.nan, 1.0]], "finite"),
    ],
)
def test_matrix_that_is_no_covariance_is_refused(covariance, fault):
    with pytest.raises(ValueError, match=f"covariance must be {fault}"):
        degrees_of_freedom(covariance, 1.0)


# Sufficient number of nodes


@pytest.mark.parametrize("delta", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("m", [1, 20, 128, 1000])
def test_a_lam_is_certified_by_the_nodes_that_suffice_for_it(m, delta):
    covariance = decaying(40, 0.7)
    lam = certified_lam(covariance, m, delta)
    assert sufficient_nodes(covariance, lam * (1.0 + 1e-9), delta) <= m
    assert lam == 0.0 or sufficient_nodes(covariance, lam * (1.0 - 1e-3), delta) > m


def test_the_theorem_needs_about_four_degrees_of_freedom_at_128_nodes():
    covariance = decaying(128, 0.9)
    assert 3.0 < degrees_of_freedom(covariance, certified_lam(covariance, 128, 0.1)) < 4.5


@pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES)
@pytest.mark.parametrize("delta", [0.05, 0.5])
def test_the_residual_of_so_many_draws_is_small_as_often_as_is_stated(covariance, delta):
    lam = 0.01 * np.linalg.eigvalsh(covariance)[-1]
    smoother = np.linalg.solve(covariance + lam * np.eye(60), covariance)
    n_nodes, rng = sufficient_nodes(covariance, lam, delta), np.random.default_rng(1)
    held = [
        at_most(drawn_residual(covariance, lam, n_nodes, rng), 4.0 * lam * smoother)
        for _ in range(N_DRAWS)
    ]
    assert np.mean(held) >= 1.0 - delta


@pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES)
def test_with_two_draws_it_often_is_not(covariance):
    rng = np.random.default_rng(1)
    lam = 0.01 * np.linalg.eigvalsh(covariance)[-1]
    largest = [
        np.linalg.eigvalsh(drawn_residual(covariance, lam, 2, rng))[-1] for _ in range(N_DRAWS)
    ]
    assert np.mean(np.array(largest) <= 4.0 * lam) < 0.6


@pytest.mark.parametrize("seed", range(3))
def test_the_guaranteed_loss_is_kept_as_often_as_is_stated(seed):
    covariance, rng = decaying(60, 0.5, seed), np.random.default_rng(seed)
    root = rng.normal(size=(7, 60))
    weight = root.T @ root
    guarantee = Guarantee.of(covariance, weight, m=120, delta=0.2)
    limit = guarantee.information_loss * np.vdot(weight, covariance)
    losses = [
        np.vdot(weight, drawn_residual(covariance, guarantee.lam, 120, rng)) for _ in range(N_DRAWS)
    ]
    assert np.mean(np.array(losses) <= limit) >= 0.8
    assert not guarantee.is_vacuous


def test_a_guarantee_tells_what_it_is_made_of():
    problem = random_problem(3)
    found = Guarantee.of(problem.covariance, problem.weight, m=50, delta=0.1)
    assert found.lam == certified_lam(problem.covariance, 50, 0.1)
    np.testing.assert_allclose(
        found.leverage_scores, leverage_scores(problem.covariance, found.lam)
    )
    assert found.degrees_of_freedom == pytest.approx(found.leverage_scores.sum(), rel=1e-9)
    assert found.residual == 4.0 * found.lam
    smoother = np.linalg.solve(problem.covariance + found.lam * np.eye(10), problem.covariance)
    expected = 4.0 * found.lam * np.trace(problem.weight @ smoother) / problem.total
    assert found.information_loss == pytest.approx(expected, rel=1e-9)


def test_states_that_are_all_zero_are_sure_to_be_rebuilt():
    found = Guarantee.of(np.zeros((4, 4)), np.eye(4), m=2)
    assert (found.lam, found.information_loss, found.degrees_of_freedom) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("delta", [0.0, 1.0, float("nan")])
def test_a_delta_that_is_no_probability_is_refused(delta):
    with pytest.raises(ValueError, match="delta must be a number between 0 and 1; got"):
        sufficient_nodes(np.eye(3), 1.0, delta)
    with pytest.raises(ValueError, match="delta must be a number between 0 and 1; got"):
        certified_lam(np.eye(3), 2, delta)


def test_one_draw_suffices_where_nothing_is_left():
    assert sufficient_nodes(np.eye(3), float("inf")) == 1
    assert sufficient_nodes(np.zeros((3, 3)), 1.0) == 1


def test_no_sequences_tell_nothing_of_the_risk():
    limits = {"radius": 1.0, "recurrent_norm": 1.0, "input_norm": 1.0}
    with pytest.raises(ValueError, match="n_sequences must be an int of at least 1; got 0"):
        generalization_gap(0, 5, 2, 4, 2, **limits)


def test_no_nodes_certify_nothing():
    with pytest.raises(ValueError, match="m must be an int of at least 1; got 0"):
        certified_lam(np.eye(3), 0)


# Propagation of errors


def elman(weights, x, act):
    """States (n_steps, n_nodes) of a sequence (n_steps, n_features)."""
    w_ih, w_hh, bias = weights
    states, h = [], np.zeros(len(w_hh))
    for features in x:
        h = act(w_ih @ features + w_hh @ h + bias)
        states.append(h)
    return np.array(states)


@pytest.mark.parametrize("act", [np.tanh, lambda a: np.maximum(a, 0.0)], ids=["tanh", "relu"])
def test_no_network_strays_further_than_the_bound(act):
    rng = np.random.default_rng(0)
    for _ in range(N_DRAWS):
        gain = rng.uniform(0.3, 1.5)
        w_ih, w_hh = rng.normal(size=(9, 2)), gain * rng.normal(size=(9, 9)) / 3.0
        bias, kept = rng.normal(size=9), rng.choice(9, size=5, replace=False)
        small = w_hh[np.ix_(kept, kept)] + 0.1 * rng.normal(size=(5, 5))
        shift = bias[kept] + 0.1 * rng.normal(size=5)
        x = rng.normal(size=(12, 2))
        h, z = elman((w_ih, w_hh, bias), x, act), elman((w_ih[kept], small, shift), x, act)
        before = np.vstack([np.zeros(9), h[:-1]])
        wrong = before @ w_hh[kept].T + bias[kept] - before[:, kept] @ small.T - shift
        bounds = propagated_errors(np.linalg.norm(wrong, axis=1), np.linalg.norm(small, 2))
        assert (np.linalg.norm(h[:, kept] - z, axis=1) <= bounds * (1.0 + 1e-9)).all()


def test_where_errors_all_point_one_way_the_bound_is_the_error():
    x = np.ones((10, 1))
    h = elman((np.ones((1, 1)), np.full((1, 1), 0.9), np.zeros(1)), x, lambda a: a)
    z = elman((np.ones((1, 1)), np.full((1, 1), 0.8), np.zeros(1)), x, lambda a: a)
    misread = 0.1 * np.concatenate([[0.0], h[:-1, 0]])
    np.testing.assert_allclose(propagated_errors(misread, 0.8), (h - z)[:, 0], rtol=1e-12)


def test_a_steeper_activation_makes_the_bound_grow():
    np.testing.assert_allclose(propagated_errors([1.0, 1.0, 0.0], 2.0, lipschitz=0.5), [0.5, 1, 1])


# Generalization


def networks_of(rng, n_networks, n_nodes, radius, recurrent_norm):
    """Weights of Elman networks within limits: W, U, b, V, a of one feature and one answer."""
    sizes = [(n_nodes, 1), (n_nodes, n_nodes), (n_nodes,), (1, n_nodes), (1,)]
    found = []
    for _ in range(n_networks):
        weights = [rng.normal(size=size) for size in sizes]
        norm = np.sqrt(sum(np.square(weight).sum() for weight in weights))
        weights = [radius * rng.uniform(0.5, 1.0) / norm * weight for weight in weights]
        weights[1] *= min(1.0, recurrent_norm / np.linalg.norm(weights[1], 2))
        found.append(weights)
    return found


def answers(weights, x):
    """Answers (n_sequences,) to sequences (n_sequences, n_steps)."""
    w_ih, w_hh, b, w_o, a = weights
    z = np.zeros((len(x), len(w_hh)))
    for features in x.T:
        z = np.tanh(features[:, None] @ w_ih.T + z @ w_hh.T + b)
    return (z @ w_o.T + a)[:, 0]


LIMITS = {"radius": 2.0, "recurrent_norm": 0.9}


def test_answers_change_with_the_weights_no_faster_than_is_stated():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, size=(50, 8))
    most = lipschitz_in_weights(8, **LIMITS, input_norm=1.0, state_norm=np.sqrt(3))
    networks = networks_of(rng, N_DRAWS, 3, **LIMITS)
    for one, other in pairwise(networks):
        apart = np.sqrt(sum(np.square(u - v).sum() for u, v in zip(one, other, strict=True)))
        assert np.abs(answers(one, x) - answers(other, x)).max() <= most * apart


def test_no_network_generalises_worse_than_the_bound_as_often_as_is_stated():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, size=(5000, 8))
    y = np.tanh(x.sum(1)) + rng.normal(size=5000)
    networks = networks_of(rng, 100, 2, **LIMITS)
    losses = np.array([np.minimum(np.abs(answers(each, x) - y), 1.0) for each in networks])
    gap = generalization_gap(2000, 8, 1, 2, 1, **LIMITS, input_norm=1.0, delta=0.1)
    worst = []
    for _ in range(N_DRAWS):
        sample = rng.integers(5000, size=2000)  # the 5000 sequences are all there are
        worst.append((losses.mean(1) - losses[:, sample].mean(1)).max())
    assert np.mean(np.array(worst) <= gap) >= 0.9
    assert max(worst) > 0.01
    assert gap < 0.5


def test_the_gap_falls_with_the_sequences_and_grows_with_the_nodes():
    def gap(n, m):
        return generalization_gap(n, 20, 3, m, 4, **LIMITS, input_norm=1.0)

    assert gap(4000, 8) < gap(1000, 8) < gap(1000, 16)
    assert gap(4000, 8) == pytest.approx(gap(1000, 8) / 2.0, rel=0.1)


def test_a_gap_is_vacuous_where_there_are_more_weights_than_sequences():
    assert generalization_gap(100, 20, 3, 16, 4, **LIMITS, input_norm=1.0) > 1.0


def test_where_states_may_grow_without_end_the_gap_is_infinite():
    limits = {"radius": 1e9, "recurrent_norm": 1e9, "input_norm": 1.0}
    assert generalization_gap(1000, 784, 1, 4, 1, **limits, state_norm=1e9) == np.inf
