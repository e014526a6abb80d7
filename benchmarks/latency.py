"""Speed of pruned networks in torch and in ONNX Runtime, on one thread.

Bare layers with a linear head read 100 steps of 64 inputs; the language model of two LSTM(1500)
reads 35 words. Models that others have trained are pruned to a third and to a half of the nodes and
read one of their own calibration sequences, or what their loader calls the input for latencies.
Dense and pruned, in torch and in ONNX Runtime, all four take turns, and a row has the medians.

How many times fewer multiply-adds there are is told of the recurrent layers in a step, and of all
linear maps, convolutions and recurrent layers. ``beside all`` is how many times faster ONNX Runtime
gets, beside the latter (goal: 0.8 for layers of at least 128 nodes). ``both`` is the dense network
in torch beside the pruned one in ONNX Runtime (goal: 10 with a third of the nodes). Goals are for a
sequence at a time. ``in layers`` is the part of ONNX Runtime's time that recurrent layers take, by
its own profiler.

What is missed has three reasons. A step takes 0.3 µs in ONNX Runtime however small the layer is,
and it multiplies at full rate from some 64 nodes on: ``sizes`` in place of a network shows it.
torch takes only a third more time for a dense LSTM of 128 to 256 nodes than ONNX Runtime does
(four times as much for a GRU of 128), so that ten times faster needs some eight times fewer
multiply-adds. And heads, convolutions and reconstructions that stay cost time: ``all`` and ``in
layers`` show it.
"""

import argparse
import json
import platform
import statistics
import tempfile
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from goals import medians
from networks import DATA, loader_of
from results import PACKAGES, Results, processor
from smaller import multiply_adds
from torch import nn
from torch.utils._pytree import tree_leaves
from whole_models import MODELS

from skspectral import SpectralRNNPruner, export_onnx

N_STEPS, N_INPUTS, N_OUTPUTS = 100, 64, 10
N_TOKENS, N_WORDS = 35, 10_000
FRACTIONS = (1 / 3, 1 / 2)
# Models that have time before the sequences.
TIME_FIRST = {"neuralpi_amp", "noaa_lstm"}
LAYERS = {
    "GRU(512)": ("GRU", 512, 171),
    "LSTM(128)": ("LSTM", 128, 64),
    "GRU(128)": ("GRU", 128, 42),
    "LSTM(200)": ("LSTM", 200, 66),
}
SIZES = (8, 16, 32, 42, 64, 96, 128, 171, 256, 373, 512)
WORDS = "words, LSTM(1500) x 2"

HEAD = (
    f"{'':21} {'':10} {'parameters':^21} {'fewer mult-adds':^15} {'torch, ms':^23} "
    f"{'ONNX Runtime, ms':^23} {'':23} {'in layers':^13}\n"
    f"{'network':21} {'nodes':>10} {'dense':>10} {'pruned':>10} {'a step':>8} {'all':>6} "
    f"{'dense':>8} {'pruned':>8} {'ratio':>5} {'dense':>8} {'pruned':>8} {'ratio':>5} "
    f"{'beside all':>11} {'both':>11} {'dense':>6} {'pruned':>6}  reconstruction"
)


@dataclass
class Pair:
    """A network before and after pruning, and what it reads.

    Parameters
    ----------
    dense, small : nn.Module
        The networks.
    example : tuple of Tensor
        Arguments of both.
    nodes : tuple of int
        How many the layers have together, before and after.
    fewer : float
        How many times fewer multiply-adds the recurrent layers have in a step.
    has_wide_layers : bool
        Whether the dense layers have 128 nodes or more.
    stays : tuple of str
        Layers whose reconstruction stays a linear map of its own.
    """

    dense: nn.Module
    small: nn.Module
    example: tuple[Any, ...]
    nodes: tuple[int, int]
    fewer: float
    has_wide_layers: bool
    stays: tuple[str, ...] = ()


class Net(nn.Module):
    """Recurrent layers, with a linear head and, for words, an embedding."""

    def __init__(self, kind, sizes, n_outputs, n_words=None):
        super().__init__()
        self.embedding = nn.Embedding(n_words, sizes[0]) if n_words else nn.Identity()
        self.layers = nn.ModuleList(
            getattr(nn, kind)(*pair, batch_first=True) for pair in pairwise(sizes)
        )
        self.head = nn.Linear(sizes[-1], n_outputs)

    def forward(self, x):
        """Answers at every step."""
        x = self.embedding(x)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x)

    def n_nodes(self):
        """Nodes of all layers."""
        return sum(layer.hidden_size for layer in self.layers)

    def multiply_adds_a_step(self):
        """Return the multiply-adds of the recurrent layers in a step."""
        return sum(weight.numel() for weight in self.layers.parameters() if weight.ndim == 2)


def bare_layer(kind, before, after, batch):
    """A layer in both sizes."""
    sizes = [(N_INPUTS, n_nodes) for n_nodes in (before, after)]
    dense, small = (Net(kind, each, N_OUTPUTS) for each in sizes)
    return random_pair(dense, small, torch.randn(batch, N_STEPS, N_INPUTS))


def word_model(batch):
    """The language model in the sizes of Intrinsic Sparse Structures."""
    sizes = (1500, 1500, 1500), (1500, 373, 315)
    dense, small = (Net("LSTM", each, N_WORDS, N_WORDS) for each in sizes)
    return random_pair(dense, small, torch.randint(N_WORDS, (batch, N_TOKENS)))


def random_pair(dense, small, x):
    """Networks with random weights, which cost as much as trained ones."""
    fewer = dense.multiply_adds_a_step() / small.multiply_adds_a_step()
    nodes = dense.n_nodes(), small.n_nodes()
    return Pair(dense.eval(), small.eval(), (x,), nodes, fewer, has_wide_layers=True)


def model_of_others(name, fraction, batch):
    """A trained network, folded."""
    likelihood, cut, _ = MODELS[name]
    loader = loader_of(name)
    dense, batches = loader.load_model(), loader.calibration_inputs(**cut)
    pruner = SpectralRNNPruner(
        dense, fraction, likelihood=likelihood, trajectory_fit=0, n_refit=0
    ).fit(iter(batches[:4]))
    rows = pruner.summary(as_frame=True)
    layers, whole = rows[:-1], rows.loc["all"]
    return Pair(
        dense,
        pruner.pruned_module_,
        sequences(name, loader, batches, batch),
        (int(whole["nodes"]), int(whole["kept"])),
        whole["multiply_adds_before"] / whole["multiply_adds"],
        (layers["nodes"] >= 128).all(),
        tuple(layers.index[layers["reconstruction"].str.startswith("stays")]),
    )


def sequences(name, loader, batches, batch):
    """As many as asked for of the same sequence."""
    if hasattr(loader, "latency_input"):
        example = loader.latency_input()
    else:  # in the middle of batches that are sorted by length
        example = tuple(each[:1] for each in batches[len(batches) // 2])
    return tuple(torch.cat([each] * batch, int(name in TIME_FIRST)) for each in example)


def in_torch(module, example):
    """Return a function that runs a module."""

    @torch.inference_mode()
    def run():
        return module(*example)

    return run


def export(module, example, path):
    """Write a module to a file."""
    export_onnx(module, example, path, dynamic=False)


def in_onnxruntime(path, example, profile_prefix=""):
    """A session, and what runs the file in it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = bool(profile_prefix)
    options.profile_file_prefix = profile_prefix
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    given = {name: each.numpy() for name, each in zip(names, example, strict=True)}
    return session, partial(session.run, None, given)


def in_layers(path, example, n_runs=15):
    """Part of the time of all operators that recurrent layers take, by the median of each."""
    session, run = in_onnxruntime(path, example, f"{path}.profile")
    for _ in range(n_runs):
        run()
    times = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"], event["args"]["op_name"]].append(event["dur"])
    taken = {key: statistics.median(each) for key, each in times.items()}
    layers = [time for (_, operator), time in taken.items() if operator in ("RNN", "GRU", "LSTM")]
    return sum(layers) / sum(taken.values())


def check_same(run, in_session):
    """ONNX Runtime has to answer the same."""
    for found, answer in zip(in_session(), tree_leaves(run()), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), answer, rtol=1e-3, atol=1e-4)


def measure(pair, repeats, limit):
    """The numbers of a row."""
    both = pair.dense, pair.small
    runs = [in_torch(module, pair.example) for module in both]
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.onnx" for name in ("dense", "small")]
        for module, path in zip(both, paths, strict=True):
            export(module, pair.example, path)
        runs += [in_onnxruntime(path, pair.example)[1] for path in paths]
        shares = [in_layers(path, pair.example) for path in paths]
    for run, in_session in zip(runs[:2], runs[2:], strict=True):
        check_same(run, in_session)
    times = [1e3 * each for each in medians(*runs, repeats=repeats, limit=limit * len(runs))]
    dense, small = (multiply_adds(module, *pair.example) for module in both)
    before, after = (sum(each.numel() for each in module.parameters()) for module in both)
    return {
        "parameters before": before,
        "parameters": after,
        "times fewer multiply-adds a step": pair.fewer,
        "times fewer multiply-adds": dense / small,
        "torch before (ms)": times[0],
        "torch (ms)": times[1],
        "ONNX Runtime before (ms)": times[2],
        "ONNX Runtime (ms)": times[3],
        "in layers before": shares[0],
        "in layers": shares[1],
    }


def shown(pair, measured, is_single):
    """The numbers of a row as text, with what is met or missed of the goals that it has."""
    before, after, fewer, all_fewer, dense, small, dense_onnx, small_onnx, *shares = (
        measured.values()
    )
    ratio, both = dense_onnx / small_onnx, dense / small_onnx
    beside = verdict(ratio / all_fewer, 0.8, is_single and pair.has_wide_layers)
    is_third = pair.nodes[1] < 0.4 * pair.nodes[0]
    reconstruction = f"stays: {', '.join(pair.stays)}" if pair.stays else "folded"
    return (
        f"{before:10,} {after:10,} {fewer:8.2f} {all_fewer:6.2f} "
        f"{dense:8.3f} {small:8.3f} {dense / small:5.2f} "
        f"{dense_onnx:8.3f} {small_onnx:8.3f} {ratio:5.2f} "
        f"{beside} {verdict(both, 10, is_single and is_third)} "
        f"{shares[0]:6.0%} {shares[1]:6.0%}  {reconstruction}"
    )


def verdict(measured, goal, is_goal):
    """A number, and whether it meets the goal, where it is one."""
    word = ("MISSED" if measured < goal else "met") if is_goal else ""
    return f"{measured:4.2f} {word:6}"


def step_costs(arguments):
    """Microseconds of a step by the size of the layer, and multiply-adds of a nanosecond."""
    print("µs of a step, and multiply-adds of a ns")
    print(f"{'layer':>10} {'kB':>7} {'torch':>8} {'':6} {'ONNX Runtime':>13}")
    x = torch.randn(arguments.batch, N_STEPS, N_INPUTS)
    for kind in ("GRU", "LSTM"):
        for n_nodes in SIZES:
            module = getattr(nn, kind)(N_INPUTS, n_nodes, batch_first=True).eval()
            with tempfile.TemporaryDirectory() as folder:
                export(module, (x,), f"{folder}/layer.onnx")
                runs = in_torch(module, (x,)), in_onnxruntime(f"{folder}/layer.onnx", (x,))[1]
            times = medians(*runs, repeats=arguments.repeats, limit=arguments.seconds)
            weights = sum(each.numel() for each in module.parameters() if each.ndim == 2)
            each_time = [1e6 * seconds / N_STEPS for seconds in times]
            rates = [arguments.batch * weights / (1e3 * each) for each in each_time]
            print(
                f"{f'{kind}({n_nodes})':>10} {4 * weights / 1024:7.0f} {each_time[0]:8.2f} "
                f"{rates[0]:6.1f} {each_time[1]:13.2f} {rates[1]:6.1f}",
                flush=True,
            )


def makers():
    """Return functions that make the pairs, by network."""
    found = {name: [partial(bare_layer, *layer)] for name, layer in LAYERS.items()}
    found[WORDS] = [word_model]
    if DATA is None:
        print("SKSPECTRAL_DATA is not set: models of others are left out")
        return found
    for name in MODELS:
        found[name] = [partial(model_of_others, name, fraction) for fraction in FRACTIONS]
    return found


def row(name, make, arguments, results):
    """Measure and print a row of the table."""
    pair = make(arguments.batch)
    nodes = " to ".join(map(str, pair.nodes))
    print(f"{name:21} {nodes:>10} ", end="", flush=True)
    try:
        measured = measure(pair, arguments.repeats, arguments.seconds)
    except (RuntimeError, AssertionError) as error:
        print(f"left out: {str(error).partition(chr(10))[0]}", flush=True)
        return
    print(shown(pair, measured, arguments.batch == 1), flush=True)
    key = {"network": name, "nodes": nodes, "batch": arguments.batch}
    results.add(key, measured)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what could not be folded, and of the exporter
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help="or sizes; all networks if none is named")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2, help="at most, for each of the four")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    packages = (*PACKAGES, onnxruntime)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in packages)
    print(f"1 thread, {processor()}, Python {platform.python_version()}, {versions}")
    print(f"batch {arguments.batch}; bare layers: {N_STEPS} steps of {N_INPUTS} inputs")
    if arguments.networks == ["sizes"]:
        step_costs(arguments)
        parser.exit()
    print(HEAD)
    results = Results("latency", ["network", "nodes", "batch"], packages=packages)
    for name, makes in makers().items():
        if not arguments.networks or name in arguments.networks:
            for make in makes:
                row(name, make, arguments, results)
