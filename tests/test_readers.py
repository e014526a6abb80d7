"""Who reads the hidden state: followed through the module."""

import itertools
from dataclasses import replace

import pytest
import torch
from networks import CELLS, FOLLOWED, N_FEATURES, N_NODES, UNFOLLOWED, Net, make_rnn, surgery_of
from torch import nn

from skspectral.rnn.forward_pass import ForwardPass
from skspectral.rnn.layers.find import find_layers
from skspectral.rnn.tracing.readers import Reader, Readers
from skspectral.rnn.tracing.tracer import find_readers


def readers_of(module, x=None):
    """Who reads, and what stands in the way, without lines of code and advice."""
    x = torch.randn(4, 6, N_FEATURES, dtype=torch.float64) if x is None else x
    readers = surgery_of(module, x).readers
    reasons = {
        host: why.partition(" (")[0].partition(";")[0] for host, why in readers.not_foldable.items()
    }
    return replace(readers, not_foldable=reasons)


NODES = (("rnn.l0", N_NODES),)


def found(*paths, but=None, linear_only=None):
    """These read all nodes of the one layer, but something else happens to its states."""
    readers = tuple(Reader(path, NODES) for path in paths)
    not_foldable, reasons = ({} if why is None else {"rnn": why} for why in (but, linear_only))
    return Readers(readers, not_foldable, linear_only=reasons)


def found_weight(path, name, axis=1, **scaled):
    """This weight, which is of no linear map, reads all nodes of the one layer."""
    readers = (Reader(path, NODES, name, axis, **scaled),)
    where = f"{path}.{name}".strip(".")
    return Readers(readers, linear_only={"rnn": f"is read by {where!r}, which has no bias"})


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("name", "cell"), [*zip(FOLLOWED, itertools.cycle(CELLS), strict=False)])
def test_a_head_is_found_through_whatever_only_moves_states(name, cell, batch_first):
    net = Net(make_rnn(cell, batch_first=batch_first), FOLLOWED[name].read)
    assert readers_of(net) == found("head")


def attended(net, states, h):
    return net.head(net.attention(states, states, states, need_weights=False)[0][:, -1])


READS = {
    "two heads": (
        lambda net, states, h: (net.head(h[-1]), net.other(states)),
        found("head", "other"),
    ),
    "one head twice": (
        lambda net, states, h: net.head(h[-1]) + net.head(states[:, 0]),
        found("head"),
    ),
    "nobody": (lambda net, states, h: net.x.sum(), Readers()),
    "shape alone": (lambda net, states, h: net.x.new_zeros(states.shape), Readers()),
    "new rows among the states": (
        lambda net, states, h: net.head(torch.cat([h[-1], torch.zeros_like(h[-1])])),
        found("head", linear_only="is padded with zeros"),
    ),
    "other rows among the states": (
        lambda net, states, h: net.head(torch.cat([h[-1], torch.ones_like(h[-1])])),
        found(but="reaches 'head' in another order or in part"),
    ),
    "sliced nodes": (
        lambda net, states, h: net.part(states[..., :3]),
        found(but="reaches 'part' in another order or in part"),
    ),
    "reversed nodes": (
        lambda net, states, h: net.head(states.flip(-1)),
        found(but="reaches 'head' in another order or in part"),
    ),
    "nodes in steps' place": (
        lambda net, states, h: net.head(states[:, :1].expand(-1, 7, -1).transpose(1, 2)),
        found(but="reaches 'head' in another order or in part"),
    ),
    "joined with features": (
        lambda net, states, h: net.wide(torch.cat([states, net.x], -1)),
        Readers((Reader("wide", (("rnn.l0", N_NODES), (None, N_FEATURES))),)),
    ),
    "shared head": (
        lambda net, states, h: net.head(h[-1]) + net.head(net.bring(net.x[:, 0])),
        found("head", but="reaches 'head' beside other inputs at different times"),
    ),
    "shared weight": (
        lambda net, states, h: net.head(h[-1]) + net.head.weight.sum(),
        found("head", but="shares 'head' with another use"),
    ),
    "returned": (
        lambda net, states, h: (net.head(h[-1]), states),
        found("head", but="is returned by forward"),
    ),
    "nothing but states returned": (
        lambda net, states, h: (states, h),
        found(but="is returned by forward"),
    ),
    "last state returned in a dict": (
        lambda net, states, h: {"out": net.head(h[-1]), "state": [h[0]]},
        found("head"),
    ),
    "last state returned and not read": (
        lambda net, states, h: (net.head(states), h),
        replace(found("head"), last_unread=frozenset({"rnn"})),
    ),
    "own parameter": (
        lambda net, states, h: nn.functional.linear(h[-1], net.own),
        found_weight("", "own"),
    ),
    "matrix product": (lambda net, states, h: h[-1] @ net.own.T, found_weight("", "own")),
    "sum of products": (
        lambda net, states, h: torch.einsum("bth,oh->bto", states, net.own),
        found_weight("", "own"),
    ),
    "parameter used twice": (
        lambda net, states, h: (h[-1] @ net.own.T) * net.own.sum(),
        replace(found_weight("", "own"), not_foldable={"rnn": "shares '' with another use"}),
    ),
    "product of states": (
        lambda net, states, h: states @ states.mT,
        found(but="is used by matmul"),
    ),
    "relu": (lambda net, states, h: net.head(states.relu()), found(but="is used by relu")),
    "sum": (
        lambda net, states, h: net.head(states.sum(1)),
        found("head", linear_only="is used by sum"),
    ),
    "attention": (
        lambda net, states, h: net.head(
            (states * net.head(states)[..., :1].softmax(1).log().exp()).sum(1)
        ),
        found("head", linear_only="is used by mul"),
    ),
    "sum over nodes": (lambda net, states, h: states.sum(-1), found(but="is used by sum")),
    "in place": (
        lambda net, states, h: net.head(states[:, -1].mul_(2.0)),
        found("head", linear_only="is used by mul_"),
    ),
    "assignment": (
        lambda net, states, h: net.wide(assigned(net.x.new_ones(len(net.x), 10), h[-1])),
        Readers((Reader("wide", (*NODES, (None, N_FEATURES))),)),
    ),
    "layer norm": (
        lambda net, states, h: net.head(net.norm(states)),
        found(but="is used by layer_norm"),
    ),
    "convolution": (
        lambda net, states, h: net.conv(states.transpose(1, 2)),
        found_weight("conv", "weight"),
    ),
    "softmax": (
        lambda net, states, h: net.head(states.softmax(1)),
        found(but="is used by softmax"),
    ),
    "head and a residual": (
        lambda net, states, h: net.head(h[-1]) + h[-1][:, :2],
        found("head", but="is used by add"),
    ),
}


def assigned(target, states):
    target[:, :7] = states
    return target


@pytest.mark.parametrize("name", READS)
def test_readers_and_what_stands_in_their_way(name):
    read, expected = READS[name]
    assert readers_of(Net(make_rnn(), read)) == expected


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_head_is_found_through_a_view_of_all_steps(batch_first):
    def read(net, states, h):
        steps = states.transpose(0, 1) if batch_first else states
        return net.head(steps.view(len(steps), -1).view(steps.shape))

    assert readers_of(Net(make_rnn(batch_first=batch_first), read)) == found("head")


@pytest.mark.parametrize("name", UNFOLLOWED)
@pytest.mark.parametrize("batch_first", [True, False])
def test_whatever_changes_states_is_an_obstacle(name, batch_first):
    net = Net(make_rnn(batch_first=batch_first), UNFOLLOWED[name].read)
    assert readers_of(net).not_foldable.keys() == {"rnn"}


def test_attention_is_named_as_the_obstacle():
    readers = readers_of(Net(make_rnn(), attended))
    assert readers.readers == ()
    assert "attention" in readers.not_foldable["rnn"]


@pytest.mark.parametrize("cell", CELLS)
def test_a_bare_layer_has_no_readers(cell):
    readers = readers_of(make_rnn(cell))
    assert readers == Readers((), {"": "is returned by forward"})


@pytest.mark.parametrize(
    ("read", "use"),
    [
        (lambda net, states, h: net.head(net.cell[-1]), "linear"),
        (lambda net, states, h: net.head(h[-1]) + net.other(net.cell).sum(), "linear"),
        (lambda net, states, h: net.head(torch.cat([h, net.cell])), "linear"),
    ],
)
def test_reading_the_cell_state_is_refused(read, use):
    with pytest.raises(
        ValueError, match=rf"cell state of layer 'rnn.l0' is read by {use},.*give a"
    ):
        readers_of(Net(make_rnn("lstm"), read))


@pytest.mark.parametrize("padded", [True, False])
def test_states_are_followed_through_packing(padded):
    class Packing(Net):
        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            states, h = self.rnn(packed)
            if not padded:
                return self.head(h[-1]), self.other(states.data)
            states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
            return self.head(states[torch.arange(len(x)), lengths - 1]), self.other(states)

    x = torch.randn(3, 5, N_FEATURES, dtype=torch.float64)
    readers = readers_of(Packing(make_rnn(), None), (x, torch.tensor([3, 5, 1])))
    reason = "is padded with zeros" if padded else None
    assert replace(readers, idle={}) == found("head", "other", linear_only=reason)


def test_weights_are_those_of_the_readers():
    net = Net(make_rnn(dtype=torch.float32), READS["two heads"][0])
    weights = list(readers_of(net).weights(net, "rnn.l0"))
    assert [weight.dtype for weight in weights] == [torch.float64] * 2
    assert torch.equal(weights[0], net.head.weight.double())
    assert torch.equal(weights[1], net.other.weight.double())


@pytest.mark.parametrize("name", ["last step", "every step"])
def test_following_leaves_the_module_as_it_was(name):
    net = Net(make_rnn(), FOLLOWED[name].read).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    x = torch.randn(4, 6, N_FEATURES, dtype=torch.float64)
    find_readers(net, find_layers(net), [ForwardPass((x,), {})])
    assert net.training
    assert not net.rnn._forward_hooks
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["layers", "_n_layers", "rnn_layers"])
def test_a_module_may_call_its_attributes_as_it_likes(name):
    net = Net(make_rnn(), UNFOLLOWED["relu"].read)
    setattr(net, name, 2)
    assert [layer.host for layer in find_layers(net)] == ["rnn"]
    assert readers_of(net).not_foldable == {"rnn": "is used by relu"}
