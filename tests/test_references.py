"""Layers that a module holds where ``named_modules`` does not look."""

from functools import partial

import pytest
import torch
from networks import N_FEATURES, make_rnn
from test_paths import M, Net, X, assert_same, fitted, linear, rebuilt
from torch import nn

from skspectral import load_pruned, save_pruned


def dict_of(rnn, head):
    return {"enc": rnn, "dec": head}


HOLDERS = {
    "dict": (lambda net: {"enc": net.rnn, "dec": net.head}, lambda held, x: held["enc"](x)),
    "list": (lambda net: [net.rnn], lambda held, x: held[0](x)),
    "tuple in a dict": (lambda net: {"parts": (net.rnn,)}, lambda held, x: held["parts"][0](x)),
    "partial": (lambda net: partial(net.rnn), lambda held, x: held(x)),
    "bound method": (lambda net: net.rnn.__call__, lambda held, x: held(x)),
}


class Holding(Net):
    """Runs its layer by another reference to it."""

    def __init__(self, holder):
        super().__init__(None, head=linear())
        hold, self.run_held = HOLDERS[holder]
        self.held = hold(self)

    def forward(self, x):
        return self.head(self.run_held(self.held, x)[0])


every_holder = pytest.mark.parametrize("holder", HOLDERS)


@every_holder
def test_the_small_layer_runs_wherever_it_is_held(holder):
    net = Holding(holder)
    pruner = fitted(net, [(X,)])
    small = pruner.pruned_module_
    assert_same(small(X), net.head(rebuilt(pruner, net.rnn, X)))
    assert pruner.n_parameters_ == sum(p.numel() for p in small.parameters())
    assert net.held is not small.held
    assert small.rnn.hidden_size == M


@every_holder
def test_files_hold_what_runs(holder, tmp_path):
    small = fitted(Holding(holder), [(X,)]).pruned_module_
    save_pruned(small, tmp_path / "small.safetensors")
    assert_same(load_pruned(tmp_path / "small.safetensors", into=Holding(holder))(X), small(X))


def test_a_closure_holds_the_small_layer():
    net = Net(lambda net, x: net.head(net.held(x)[0]), head=linear())
    rnn = net.rnn
    net.held = lambda x: rnn(x)  # noqa: PLW0108  its closure is the point
    pruner = fitted(net, [(X,)])
    assert_same(pruner.pruned_module_(X), net.head(rebuilt(pruner, net.rnn, X)))
    assert net.held.__closure__[0].cell_contents is net.rnn


def test_a_forward_that_was_put_in_the_place_of_another():
    net = Net(lambda net, x: net.head(net.rnn(x)[0]), head=linear())
    given = net.rnn.forward
    net.rnn.forward = lambda x, hx=None: (2.0 * given(x, hx)[0], None)
    before = net(X)
    assert_same(fitted(net, [(X,)], m=1.0).pruned_module_(X), before)
    with pytest.warns(UserWarning, match="remains a separate linear layer"):
        small = fitted(Stepping(net), [(X,)]).pruned_module_
    assert small.net.rnn.hidden_size == 7
    assert_same(net(X), before)


class Stepping(nn.Module):
    """What reads the states does so in a way that does not fold."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.head(self.net.rnn(x)[0].relu())


def test_hooks_of_a_copy_leave_the_original_alone():
    net = Net(lambda net, x: net.head(net.rnn(x)[0]), head=linear())
    net.seen = []
    net.rnn.register_forward_hook(lambda *_: net.seen.append(len(net.seen)))
    small = fitted(net, [(X,)]).pruned_module_
    assert net.seen == []
    small(X)
    assert (net.seen, small.seen) == ([], [0])


def test_a_closure_over_a_layer_of_nobody_is_refused():
    rnn = make_rnn()
    net = Net(lambda net, x: net.head(rnn(x)[0] + net.rnn(x)[0]), head=linear())
    with pytest.raises(ValueError, match="runs a recurrent layer that is not among its modules"):
        fitted(net, [(X,)])


def test_a_layer_that_is_run_by_its_forward_is_refused_by_name():
    def run(net, x):
        return net.head(net.second.forward(net.rnn(x)[0])[0])

    net = Net(run, second=make_rnn(n_features=7), head=linear())
    with pytest.raises(ValueError, match=r"layer 'second.l0' runs by its forward()"):
        fitted(net, [(X,)])


# Weights that several layers share


def both_ways(net, x):
    return net.head(torch.cat([net.rnn(x)[0], net.other(x.flip(1))[0]], -1))


def tied(names, **options):
    rnn, other = make_rnn(**options), make_rnn(**options)
    for name in names or list(other._parameters):
        setattr(other, name, getattr(rnn, name))
    width = 14 * (1 + options.get("bidirectional", False))
    return Net(both_ways, rnn, other=other, head=linear(2, width))


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("m", [M, 1.0])
def test_layers_that_are_one_stay_one(options, m):
    net = tied(None, **options)
    pruner = fitted(net, [(X,)], m=m)
    small = pruner.pruned_module_
    assert small.rnn.weight_hh_l0 is small.other.weight_hh_l0
    n_dense = sum(p.numel() for p in net.parameters())
    if m == 1.0:
        assert pruner.n_parameters_ == n_dense
        assert_same(small(X), net(X))
    else:
        assert pruner.n_parameters_ < n_dense
        assert all("other" not in name for name in pruner.layers_)


def test_tied_layers_are_chosen_from_the_states_of_both():
    pruner = fitted(tied(None), [(X,)])
    assert pruner.moments_.n_steps == 2 * X.shape[0] * X.shape[1]


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_hh_l0"])
def test_layers_that_share_some_weights_are_refused(name):
    with pytest.raises(ValueError, match=f"layer 'rnn' shares its {name} with another layer"):
        fitted(tied([name]), [(X,)])


# Weights that are computed


class Once(Net):
    def __init__(self, change, **options):
        super().__init__(lambda net, x: net.head(net.rnn(x)[0]), make_rnn("lstm", **options))
        width = 7 * (1 + options.get("bidirectional", False))
        self.head = linear(2, width)
        change(self)


def spectral(net):
    nn.utils.parametrizations.spectral_norm(net.head)


def parametrized(net):
    nn.utils.parametrizations.weight_norm(net.rnn, "weight_hh_l0")


def old_weight_norm(net):
    nn.utils.weight_norm(net.rnn, "weight_ih_l0")
    nn.utils.weight_norm(net.head)


def old_spectral_norm(net):
    nn.utils.spectral_norm(net.head)


def masked(net):
    nn.utils.prune.l1_unstructured(net.rnn, "weight_hh_l0", 0.5)
    nn.utils.prune.random_unstructured(net.head, "weight", 0.5)


COMPUTED = [spectral, parametrized, old_weight_norm, old_spectral_norm, masked]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("change", COMPUTED)
def test_computed_weights_are_taken_as_they_are(change, options, trained):
    net = Once(change, **options).eval()
    if trained:  # weights with a graph
        net(X).sum().backward()
    before, kinds = net(X), [type(part) for part in net.modules()]
    whole = fitted(net, [(X,)], m=1.0).pruned_module_
    assert_same(whole(X), before)
    small = fitted(net, [(X,)]).pruned_module_
    assert type(small.rnn) is nn.LSTM
    assert small.rnn.hidden_size == M
    assert [type(part) for part in net.modules()] == kinds
    assert_same(net(X), before)


def test_states_kept_with_their_graph():
    def run(net, x):
        states, net.last = net.rnn(x)
        return net.head(states)

    net = Net(run, head=linear()).eval()
    net(X).sum().backward()
    with pytest.warns(UserWarning, match="attribute 'last' keeps it"):
        pruner = fitted(net, [(X,)])
    assert_same(pruner.pruned_module_(X), net.head(rebuilt(pruner, net.rnn, X)))


def test_a_weight_that_is_set_before_each_call_is_refused():
    class Drop(nn.Module):
        def __init__(self, rnn):
            super().__init__()
            self.inner, self.raw = rnn, rnn._parameters.pop("weight_hh_l0")
            rnn.weight_hh_l0 = self.raw.data

        def forward(self, x):
            self.inner.weight_hh_l0 = nn.functional.dropout(self.raw, 0.5, self.training).detach()
            return self.inner(x)

    net = Net(lambda net, x: net.head(net.rnn(x)[0]), Drop(make_rnn()), head=linear())
    with pytest.raises(ValueError, match=r"layer 'rnn.inner' is given its weight_hh_l0"):
        fitted(net, [(X,)])


def test_a_parameter_that_is_set_before_each_call_is_refused():
    def run(net, x):
        net.rnn._parameters["weight_hh_l0"] = nn.Parameter(net.raw.detach() * 0.5)
        return net.head(net.rnn(x)[0])

    net = Net(run, raw=nn.Parameter(make_rnn().weight_hh_l0.detach()), head=linear())
    with pytest.raises(ValueError, match=r"'rnn.l0' runs with weights that are not its own"):
        fitted(net, [(X,)])


def test_weights_on_the_meta_device_are_refused():
    with pytest.raises(ValueError, match="estimator is on the meta device"):
        fitted(nn.GRU(N_FEATURES, 7, batch_first=True, device="meta"), [(X,)])


@pytest.mark.parametrize("made_inside", [False, True])
def test_pruning_in_inference_mode(made_inside):
    net = Once(lambda _: None)
    with torch.inference_mode():
        net = Once(lambda _: None) if made_inside else net
        pruner = fitted(net, [(X,)], objective="combined", distill=1)
    assert all(p.requires_grad and not p.is_inference() for p in pruner.pruned_module_.parameters())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_modules_are_refused():
    net = torch.jit.script(nn.Sequential(nn.GRU(N_FEATURES, 7, batch_first=True)))
    with pytest.raises(ValueError, match="is scripted or quantized; give the eager module"):
        fitted(net, [(X.float(),)])
