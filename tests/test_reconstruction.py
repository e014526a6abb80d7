"""The reconstruction of lost nodes from kept ones."""

import numpy as np
import pytest
from pairs import pairwise

from skspectral.selection.reconstruction import (
    RECONSTRUCTIONS,
    centered,
    reconstruct,
    reconstruction_loss,
)

N_NODES = 7
SUPPORTS = [[3], [0, 2, 5], [6, 1, 4, 3], list(range(7))]
RIDGES = [0.0, 1e-6, 0.3]
RANKS = [N_NODES, 3]
every_rank = pytest.mark.parametrize("states", RANKS, indirect=True, ids=["full rank", "low rank"])
every_support_and_ridge = pairwise(support=SUPPORTS, tau=RIDGES, states=RANKS, indirect=["states"])


@pytest.fixture
def states(request, rng):
    """States of many steps and of some rank, with a mean."""
    mixing = rng.normal(size=(request.param, N_NODES))
    return rng.normal(size=(200, request.param)) @ mixing + rng.normal(size=N_NODES) @ (
        mixing.T @ mixing
    )


def moments(states):
    return states.T @ states / len(states), states.mean(axis=0)


def rebuilt(states, support, tau, kind):
    covariance, mean = moments(states)
    ridge = np.full(N_NODES, tau * covariance.diagonal().mean())
    A, c = reconstruct(covariance, mean, np.array(support), ridge, kind)
    return A, c, ridge


def least_squares(states, support, ridge):
    """Rows A of least ``mean‖h − A h_J‖² + Tr A I_τ Aᵀ``: the ridge as further observations."""
    extra = np.sqrt(len(states)) * np.diag(np.sqrt(ridge[support]))
    kept = np.vstack([states[:, support], extra])
    wanted = np.vstack([states, np.zeros((len(support), N_NODES))])
    return np.linalg.lstsq(kept, wanted, rcond=1e-9)[0].T


def assert_same_on(kept, A, expected):
    """The same rebuilt states; where kept nodes depend on each other many maps give them."""
    np.testing.assert_allclose(kept @ A.T, kept @ expected.T, atol=1e-7)


@every_support_and_ridge
def test_linear_is_the_least_square_on_the_lost_nodes(states, support, tau):
    A, c, ridge = rebuilt(states, support, tau, "linear")
    lost = np.setdiff1d(np.arange(N_NODES), support)
    expected = least_squares(states, support, ridge)
    assert_same_on(states[:, support], A[lost], expected[lost])
    np.testing.assert_array_equal(c, 0.0)


@every_support_and_ridge
def test_affine_is_the_least_square_on_the_centered_states(states, support, tau):
    A, c, ridge = rebuilt(states, support, tau, "affine")
    mean = states.mean(axis=0)
    lost = np.setdiff1d(np.arange(N_NODES), support)
    expected = least_squares(states - mean, support, ridge)
    assert_same_on((states - mean)[:, support], A[lost], expected[lost])
    np.testing.assert_allclose(mean[support] @ A.T + c, mean, atol=1e-9)


@pairwise(support=SUPPORTS, states=RANKS, indirect=["states"])
def test_none_deletes_the_lost_nodes(states, support):
    A, c, _ = rebuilt(states, support, 1e-6, "none")
    np.testing.assert_array_equal(A, np.eye(N_NODES)[:, support])
    np.testing.assert_array_equal(c, 0.0)


@every_support_and_ridge
def test_kept_nodes_are_rebuilt_as_themselves(states, support, tau):
    for kind in RECONSTRUCTIONS:
        A, c, _ = rebuilt(states, support, tau, kind)
        assert A.shape == (N_NODES, len(support)), kind
        np.testing.assert_array_equal(A[support], np.eye(len(support)), err_msg=kind)
        np.testing.assert_array_equal(c[support], 0.0, err_msg=kind)


@pairwise(
    support=SUPPORTS,
    tau=RIDGES,
    kind=RECONSTRUCTIONS,
    weighted=[False, True],
    states=RANKS,
    indirect=["states"],
)
def test_loss_is_the_mean_weighted_square_over_the_states(
    states, support, tau, kind, weighted, rng
):
    A, c, _ = rebuilt(states, support, tau, kind)
    reader = rng.normal(size=(3, N_NODES)) if weighted else np.eye(N_NODES)
    errors = [reader @ (h - A @ h[support] - c) for h in states]
    expected = np.mean([error @ error for error in errors])
    loss = reconstruction_loss(*moments(states), reader.T @ reader, A, c, support)
    scale = np.vdot(reader.T @ reader, moments(states)[0])
    np.testing.assert_allclose(loss, expected, atol=1e-12 * scale)
    assert loss >= 0.0


@every_rank
@pytest.mark.parametrize("support", [[0, 2], [1, 3, 4]])
def test_affine_loses_no_more_than_linear_and_linear_no_more_than_none(states, support):
    losses = [
        reconstruction_loss(
            *moments(states), np.eye(N_NODES), *rebuilt(states, support, 0.0, kind)[:2], support
        )
        for kind in ("affine", "linear", "none")
    ]
    slack = 1e-12 * np.trace(moments(states)[0])
    assert losses[0] <= losses[1] + slack
    assert losses[1] <= losses[2] + slack


def test_enough_nodes_rebuild_states_of_low_rank(rng):
    states = rng.normal(size=(50, 3)) @ rng.normal(size=(3, N_NODES))
    A, _, _ = rebuilt(states, [0, 4, 6], 0.0, "linear")
    np.testing.assert_allclose(states[:, [0, 4, 6]] @ A.T, states, atol=1e-9)


def test_constant_nodes_are_rebuilt_by_the_affine_part(rng):
    states = rng.normal(size=(50, N_NODES))
    states[:, [2, 5]] = 0.75, -1.5
    A, c, _ = rebuilt(states, [0, 1], 1e-6, "affine")
    np.testing.assert_allclose(A[[2, 5]], 0.0, atol=1e-12)
    np.testing.assert_allclose(c[[2, 5]], [0.75, -1.5])


@every_rank
@pytest.mark.parametrize("kind", RECONSTRUCTIONS)
def test_second_moment_is_centered_for_the_affine_kind_alone(states, kind):
    covariance, mean = moments(states)
    expected = np.cov(states.T, bias=True) if kind == "affine" else covariance
    np.testing.assert_allclose(centered(covariance, mean, kind), expected, atol=1e-10)


def test_nodes_of_very_different_scale_are_rebuilt_alike(rng):
    states = rng.normal(size=(200, 8)) @ rng.normal(size=(8, 8))
    scale = 10.0 ** np.linspace(-6, 6, 8)
    plain, _ = reconstruct(states.T @ states / 200, np.zeros(8), np.arange(4), np.zeros(8))
    wide = states * scale
    scaled, _ = reconstruct(wide.T @ wide / 200, np.zeros(8), np.arange(4), np.zeros(8))
    np.testing.assert_allclose(scaled, scale[:, None] * plain / scale[:4], rtol=1e-6)
