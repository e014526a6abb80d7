"""Figures in prose are those of the results files, or of a run."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skspectral import prune

ROOT = Path(__file__).parent.parent
NETWORKS = {
    "nn.RNN": nn.RNN(3, 32, batch_first=True),
    "nn.GRU": nn.GRU(3, 32, batch_first=True),
    "nn.LSTM": nn.LSTM(3, 32, batch_first=True),
    "nn.LSTM(num_layers=2)": nn.LSTM(3, 32, num_layers=2, batch_first=True),
    "nn.LSTM(bidirectional=True)": nn.LSTM(3, 32, bidirectional=True, batch_first=True),
}


METHODS = [
    f"{method}{how}"
    for method in ("spectral", "column sampling", "random nodes")
    for how in ("", ", no reconstruction")
]
PEERS = [
    "weights of least magnitude cut",
    "torch-pruning, magnitude",
    "torch.nn.utils.prune, rows masked",
    "low-rank recurrence, as many weights",
    "low-rank recurrence, rank m",
]
SALIENCY = "torch.ao, saliency of LSTM"


class Tagger(nn.Module):
    """A head that reads the states of every step."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn
        self.head = nn.Linear(32 * (1 + rnn.bidirectional), 4)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def prose(name):
    """Return the text of a page, without line breaks."""
    return " ".join((ROOT / name).read_text().split())


def measured(name):
    """Return the rows of a results file."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["rows"]


def mean(name, value, **key):
    """Return the mean of a value over the rows of a results file that have a key."""
    found = [row[value] for row in measured(name) if row.items() >= key.items()]
    assert found, key
    return np.mean(found, axis=0)


def model(name, kept):
    """Return the measure of a model, dense or pruned with the defaults."""
    return mean(
        "models", "measure", model=name, kept=kept, method="default" if kept < 1 else "dense"
    )


def test_real_models_in_the_readme_are_those_measured():
    text = prose("README.md")
    assert (
        "a third of the nodes of a voice activity detector keep an AUC of "
        f"{model('silero_vad', 0.33):.1f} % ({model('silero_vad', 1.0):.1f} % before)"
    ) in text
    assert (
        "a third of the nodes of a date translator keep "
        f"{model('date_seq2seq', 0.33):.1f} % exact matches"
    ) in text
    key = {"network": "silero_vad", "nodes": "128 to 43", "batch": 1}
    before, after = (mean("latency", each, **key) for each in ("parameters before", "parameters"))
    assert f"has {before:,.0f} parameters before and {after:,.0f} after" in text
    assert (
        f"a perplexity of {model('ptb_lstm', 1.0):.0f} to {model('ptb_lstm', 0.5):.0f} at half"
    ) in text


def test_milliseconds_in_the_readme_are_those_measured():
    text, names = prose("README.md"), ("torch before (ms)", "torch (ms)", "ONNX Runtime (ms)")

    def milliseconds(network, nodes):
        return [
            f"{mean('latency', each, network=network, nodes=nodes, batch=1):.1f}" for each in names
        ]

    before, after, onnx = milliseconds("GRU(512)", "512 to 171")
    assert f"a GRU with 512 nodes takes {before} ms in torch" in text
    assert f"Pruned to 171 nodes, it takes {after} ms in torch and {onnx} ms in ONNX" in text
    before, after, onnx = milliseconds("words, LSTM(1500) x 2", "3000 to 688")
    assert f"goes from {float(before):.0f} ms to {after} and {onnx} ms" in text


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_in_the_table_of_packages_are_those_of_pruned_networks(name):
    net = Tagger(NETWORKS[name]).eval()
    small = prune(net, torch.randn(64, 12, 3), m=0.5)
    before, after = (sum(p.numel() for p in each.parameters()) for each in (net, small))
    own = {"layers": name, "package": "skspectral"}
    (row,) = (each for each in measured("peers") if each.items() >= own.items())
    assert row["outcome"] == f"{before:,} to {after:,}"


def test_versions_of_other_packages_are_those_compared():
    versions = {row["package"]: row["version"] for row in measured("peers")}
    torch_version = ".".join(versions["torch.ao saliency"].split(".")[:2])
    expected = f"PyTorch {torch_version} and torch-pruning {versions['torch-pruning']}"
    assert expected in prose("docs/compared.rst")


def test_sentences_on_the_time_of_a_fit_are_those_measured():
    over = {
        row["size"]
        for row in measured("goals")
        if row["what"] == "its products in float32 alone" and not row["met"]
    }
    assert over == {"RNN(128)"}
    key = {"network": "trained before", "choice": "SpectralRNNPrunerCV"}
    _, fitted = mean("choosing_m", "seconds", **key, trajectory_fit=300)
    _, unfitted = mean("choosing_m", "seconds", **key, trajectory_fit=0)
    assert unfitted < fitted / 2
    before, after = (mean("large", each, phase="parameters") / 1e6 for each in ("before", "after"))
    text = prose("docs/user_guide/scaling.rst")
    assert f"from {before:.1f} to {after:.1f} million parameters" in text


def test_the_default_solver_is_closest_to_the_optimum():
    ratios = {}
    for row in measured("optimality"):
        ratios.setdefault(row["solver"], []).append(row["ratio"])
    means = {solver: np.mean(each) for solver, each in ratios.items()}
    assert means["exchange"] == min(means.values())
    assert max(ratios["exchange"]) < 1.05


def test_methods_are_ordered_as_the_page_on_trajectories_says():
    logs = {}
    for row in measured("trajectory"):
        logs.setdefault(row["method"], []).append(np.log(max(row["divergence"], 1e-4)))
    means = {method: np.exp(np.mean(each)) for method, each in logs.items()}
    assert {len(each) for each in logs.values()} == {14 * 3 * 3}
    default = means["default"]
    assert default < min(means[each] for each in ("greedy", "one-step", "input", "affine"))
    assert means["1000 steps"] < means["distilled"] < default < means["150 steps"]
    assert means["not fitted"] > 2 * default
    assert means["not fitted, distilled"] > default
    assert means["random nodes"] == pytest.approx(means["not fitted"], rel=0.1)


def test_methods_on_pixel_mnist_are_ordered_as_the_page_says():
    before = partial(mean, "pixels", "accuracy (%)")
    after = partial(mean, "pixels", "accuracy (%), fine-tuned")
    ours = [f"skspectral, {each}" for each in ("default", "1000 steps", "distilled")]
    others = [*METHODS, "random weights", *PEERS]
    assert min(before(method=each) for each in ours) > max(before(method=each) for each in others)
    usual, longer, distilled = (
        [before(method=each, seed=seed) for seed in range(3)] for each in ours
    )
    assert all(np.greater(distilled, usual))
    assert [*np.greater(longer, usual)] == [True, True, False]
    harm = f"does harm on the third: {longer[2]:.1f} % instead of {usual[2]:.1f} %"
    assert harm in prose("docs/experiments.rst")
    assert before(method=ours[2]) < after(method=ours[0])
    tuned = [after(method=each) for each in (*ours, *METHODS) if "random" not in each]
    assert max(tuned) - min(tuned) < 2
    assert before(method="trained small from scratch") < min(tuned)
    assert 0.5 < after(method="dense") - np.mean(tuned) < 1.5
    assert after(method="dense") == pytest.approx(before(method="dense"), abs=0.05)
    ends = [after(method=each) for each in PEERS]
    expected = f"they end between {min(ends):.0f} and {max(ends):.0f} %"
    assert expected in prose("docs/experiments.rst")
    final = {method: f"{after(method=method):.1f} %" for method in (*ours, *METHODS[:2])}
    default, longer, distilled, published, deleted = final.values()
    assert longer == distilled
    expected = (
        f"{default} with the default, {longer} with 1000 steps or distillation, {published} with "
        f"the published method, and {deleted} if the nodes that it removes are deleted"
    )
    assert expected in prose("docs/experiments.rst")
    int8 = before(method="int8 dynamic quantization")
    assert int8 == pytest.approx(before(method="dense", seed=0), abs=0.05)


def test_int8_saves_time_only_in_the_network_that_the_page_names():
    times = {}
    for row in measured("int8"):
        key = row["model"], row["kept"]
        times.setdefault(key, {}).setdefault(row["weights"], []).append(row["ms"])
    medians = {key: [np.median(own[each]) for each in own] for key, own in times.items()}
    assert [key for key, (float32, int8) in medians.items() if int8 < float32] == [("ptb_lstm", 1)]


def test_refitted_readers_of_digits_are_better_where_the_page_says():
    networks = dict.fromkeys(row["network"] for row in measured("digits"))
    folded, refitted = (
        [mean("digits", "accuracy (%)", network=each, method=method) for each in networks]
        for method in ("folded", "readers refitted")
    )
    assert sorted(np.greater(refitted, folded)) == [False, True, True, True, True]


def test_small_networks_on_pixel_mnist_are_those_measured():
    names = "small by distillation, full training", "trained small from scratch"
    taught, scratch = (mean("pixels", "accuracy (%)", method=name, seed=0) for name in names)
    expected = (
        f"reaches {taught:.1f} % on the first network, one that learns the labels {scratch:.1f} %"
    )
    assert expected in prose("docs/experiments.rst")


def test_figures_beside_gates_are_those_measured():
    text = prose("docs/experiments.rst")

    def reading(method, setting):
        key = {"method": method, "setting": setting}
        return (mean("gates", each, **key) for each in ("parameters", "found (%)"))

    size, found = reading("spectral, fine-tuned", "m=0.25")
    assert f"{size:,.0f} parameters, it finds {found:.1f} % of the answers" in text
    size, found = reading("gates", "λ=0.0001")
    assert f"gates find {found:.1f} % with {size:,.0f} parameters" in text
    _, found = reading("dense, fine-tuned", "")
    assert f"trained on for as long, {found:.1f} %" in text


def test_gates_on_a_language_model_are_as_measured():
    text = prose("docs/experiments.rst")

    def words(method, setting=""):
        key = {"method": method, "setting": setting}
        return [mean("penn_gates", each, **key) for each in ("perplexity", "parameters")]

    half, third = (words("spectral, fine-tuned", f"m={m}") for m in (100, 66))
    assert f"perplexity of {half[0]:.1f} with {half[1]:,.0f} parameters" in text
    assert f"to 66 nodes at {third[0]:.1f} with {third[1]:,.0f}" in text
    low, high = (words("gates", f"λ={price}") for price in ("1e-05", "3e-05"))
    assert f"Gates end at {low[0]:.1f} with {low[1]:,.0f} parameters" in text
    assert f"at the higher penalty, at {high[0]:.1f} with {high[1]:,.0f}" in text
    both, parameters = words("spectral, then gates", "m=100, λ=1e-05")
    assert f"close nothing at the lower penalty, and end at {both:.1f}" in text
    assert parameters == half[1]
    dense, _ = words("dense, fine-tuned")
    assert f"dense network, which ends at {dense:.1f}" in text
    assert dense + 10 < half[0] < low[0] < both
    assert half[1] < low[1]
    assert high[1] < third[1]
    assert third[0] < high[0]


@pytest.mark.parametrize(
    ("network", "others"),
    [
        ("RNN(128) to 42", PEERS[1:3]),
        ("LSTM(200) x 2 to 100", [*PEERS[1:3], SALIENCY]),
        ("LSTM(200) x 2 to 66", [*PEERS[1:3], SALIENCY]),
    ],
)
def test_structured_pruning_of_word_models_stays_behind(network, others):
    tuned = partial(mean, "penn", "perplexity, fine-tuned", network=network)
    assert min(tuned(method=each) for each in others) > tuned(method="spectral")


def test_perplexities_of_the_experiments_are_those_measured():
    text = prose("docs/experiments.rst")

    def found(network, *methods, value="perplexity"):
        return [f"{mean('penn', value, network=network, method=each):.0f}" for each in methods]

    ours = [f"skspectral, {each}" for each in ("default", "1000 steps", "distilled")]
    half, third = "LSTM(200) x 2 to 100", "LSTM(200) x 2 to 66"
    (dense,) = found(third, "dense")
    ends = []
    for network, rise in (
        (half, f"At half of its nodes, the perplexity of the LSTM rises from {dense}"),
        (third, "At a third, it rises"),
    ):
        published, default, longer, distilled = found(network, "spectral", *ours)
        after = found(network, "spectral", *ours, value="perplexity, fine-tuned")
        assert (
            f"{rise} to {published} with the published method, {default} with the default, "
            f"{longer} with 1000 steps and {distilled} with distillation; after an epoch on the "
            f"labels, {', '.join(after[:3])} and {after[3]}."
        ) in text
        ends += found(network, "trained small from scratch")
        assert 0 < min(map(int, after)) - int(ends[-1]) <= 5
    assert f"for 20 epochs reach {ends[0]} and {ends[1]}." in text
    for network in {row["network"] for row in measured("penn")}:
        labeled = mean("penn", "perplexity, fine-tuned", network=network, method=ours[0])
        assert mean("penn", "perplexity", network=network, method=ours[2]) < labeled
    small = "trained small from scratch", "small by distillation, full training"
    plain, tuned = "RNN(128) to 42", "perplexity, fine-tuned"
    scratch, taught = found(plain, *small)
    assert f"{scratch} from scratch, and {taught} by distillation with a full training" in text
    best, *_ = sorted(found(plain, *ours, value=tuned))
    assert f"against {best} of the best pruned one" in text
    rank = "low-rank recurrence, as many weights", "low-rank recurrence, rank m"
    level, ahead = (mean("penn", tuned, network=plain, method=each) for each in rank)
    pruned = [mean("penn", tuned, network=plain, method=each) for each in ours]
    assert min(pruned) < level < max(pruned)
    assert ahead < min(pruned) - 20
