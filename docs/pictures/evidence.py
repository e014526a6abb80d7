"""The charts of the benchmark pages, made from the files in ``benchmarks/results``."""

import json

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter, StrMethodFormatter
from results import FOLDER
from tables import grouped, values_of

from skspectral.inspection.display import BLUE, GRAY, ORANGE, VERMILION

UNITS = {
    "silero_vad": "ROC AUC (%)",
    "noaa_lstm": "NSE, as dense",
    "neuralpi_amp": "error to signal (%) ↓",
    "g2pm": "accuracy (%)",
    "date_seq2seq": "exact match (%)",
    "ptb_lstm": "perplexity ↓",
    "textgenrnn": "bits/character ↓",
    "gazenet": "macro F1 (%)",
    "resemblyzer": "equal error rate (%) ↓",
}
STYLES = {
    "magnitude + fold": (GRAY, "x", ":"),
    "not fitted": (ORANGE, "s", "--"),
    "default": (BLUE, "o", "-"),
    "distilled": (VERMILION, "^", "-."),
}


def rows(name):
    """Rows of a results file."""
    return json.loads((FOLDER / f"{name}.json").read_text())["rows"]


def models():
    """The measure of every model against the part of the nodes that is kept."""
    every = rows("models")
    _, axes = plt.subplots(3, 3, figsize=(9.5, 7.5), sharex=True, layout="constrained")
    for (name, unit), ax in zip(UNITS.items(), axes.flat, strict=True):
        own = [row for row in every if row["model"] == name]
        dense = [row["measure"] for row in own if row["method"] == "dense"]
        ax.axhline(np.mean(dense), color=GRAY, linewidth=1)
        for method, (color, marker, line) in STYLES.items():
            found = [row for row in own if row["method"] == method]
            kept = sorted({row["kept"] for row in found})
            means = [
                np.mean([row["measure"] for row in found if row["kept"] == each]) for each in kept
            ]
            ax.plot(kept, means, color=color, marker=marker, linestyle=line, label=method)
        ax.set_title(f"{name}: {unit}", fontsize=9)
        limit(ax, own, dense)
    for ax in axes[-1]:
        ax.set_xlabel("fraction of nodes kept")
    axes[0, 0].legend(fontsize=8)


def limit(ax, own, dense):
    """Show what lies near the dense network; the worst rows would hide all others."""
    near = [row["measure"] for row in own if row["method"] in ("not fitted", "default")]
    low, high = min(near + dense), max(near + dense)
    margin = 0.4 * (high - low)
    ax.set_ylim(low - margin, high + margin)


def sizes():
    """Accuracy on Pixel-MNIST against the number of nodes, without labels."""
    every = rows("pixels_sizes")
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    dense = np.mean([row["accuracy (%)"] for row in every if row["method"] == "dense"])
    ax.axhline(dense, color=GRAY, linewidth=1, label="dense, 128 nodes")
    styles = {
        "deleted": (GRAY, "x", ":"),
        "spectral": (ORANGE, "s", "--"),
        "not fitted": (VERMILION, "^", "-."),
        "default": (BLUE, "o", "-"),
        "1000 steps": (BLUE, "D", "--"),
        "distilled": (BLUE, "^", ":"),
    }
    for method, style in styles.items():
        own = [row for row in every if row["method"] == method]
        kept = sorted({row["kept"] for row in own})
        found = [[row["accuracy (%)"] for row in own if row["kept"] == m] for m in kept]
        means_and_ranges(ax, kept, found, method, style)
    ax.set(xlabel="kept nodes", ylabel="accuracy (%) without labels")
    ax.legend()


def means_and_ranges(ax, places, found, label, style):
    """Draw the means of several seeds as a line, and their ranges as a band."""
    color, marker, line = style
    means, least, most = ([f(each) for each in found] for f in (np.mean, min, max))
    ax.plot(places, means, color=color, marker=marker, linestyle=line, label=label)
    ax.fill_between(places, least, most, color=color, alpha=0.15, linewidth=0)


def latency():
    """Milliseconds of dense and pruned networks in both runtimes."""
    every = [row for row in rows("latency") if row["batch"] == 1]
    names = [f"{row['network']}, {row['nodes'].partition(' to ')[2]}" for row in every]
    places = np.arange(len(every))
    bars = {
        "torch before (ms)": ("dense, torch", GRAY, 0.3),
        "torch (ms)": ("pruned, torch", ORANGE, 0.1),
        "ONNX Runtime before (ms)": ("dense, ONNX Runtime", VERMILION, -0.1),
        "ONNX Runtime (ms)": ("pruned, ONNX Runtime", BLUE, -0.3),
    }
    _, ax = plt.subplots(figsize=(8, 9), layout="constrained")
    for key, (label, color, shift) in bars.items():
        values = [row[key] for row in every]
        ax.barh(places[::-1] + shift, values, height=0.2, color=color, label=label)
    ax.set_yticks(places[::-1], names)
    ax.set(xscale="log", xlabel="ms per sequence, one thread")
    ax.legend()


def time_and_quality():
    """Accuracy of what each part of a fit brings, against its seconds."""
    every = rows("digits")
    networks = list(dict.fromkeys(row["network"] for row in every))
    figure, axes = plt.subplots(2, 3, figsize=(8.5, 5.5), layout="constrained")
    *places, place_of_legend = axes.flat
    for name, ax in zip(networks, places, strict=True):
        own = [row for row in every if row["network"] == name]
        methods = list(dict.fromkeys(row["method"] for row in own))
        dense = np.mean([row["accuracy (%)"] for row in own if row["method"] == "dense"])
        ax.axhline(dense, color=GRAY, linewidth=1, label="dense")
        for number, method in enumerate(methods[1:]):
            found = [row for row in own if row["method"] == method]
            seconds = np.median([row["fit (s)"] for row in found])
            accuracy = np.mean([row["accuracy (%)"] for row in found])
            ax.plot(seconds, accuracy, "os^Dvx"[number], color=COLORS[number % 4], label=method)
        ax.set(xscale="log", title=name)
        ax.xaxis.set_minor_formatter(NullFormatter())
    place_of_legend.axis("off")
    place_of_legend.legend(*places[0].get_legend_handles_labels(), loc="center", fontsize=9)
    figure.supxlabel("seconds of a fit")
    figure.supylabel("accuracy (%)")


COLORS = (GRAY, ORANGE, VERMILION, BLUE)


def perplexities():
    """Perplexity of every method on the Penn Treebank, before and after an epoch on the labels."""
    networks = {}
    for row in rows("penn"):
        networks.setdefault(row["network"], {}).setdefault(row["method"], []).append(row)
    least = min(row["perplexity"] for row in rows("penn"))
    _, axes = plt.subplots(
        len(networks),
        figsize=(8, 1.5 + 0.27 * sum(map(len, networks.values()))),
        height_ratios=[*map(len, networks.values())],
        sharex=True,
        layout="constrained",
    )
    for (name, methods), ax in zip(networks.items(), axes, strict=True):
        ax.axvline(np.mean(values_of(methods["dense"], "perplexity")), color=GRAY, linewidth=1)
        for key, label, color, marker, fill in STAGES:
            every = [values_of(own, key) for own in methods.values()]
            found, most = np.array([np.mean(own or np.nan) for own in every]), FARTHEST * least
            far = np.flatnonzero(found > most)
            found[far] = np.nan
            ax.plot(found, range(len(every)), marker, color=color, label=label, fillstyle=fill)
            ax.plot(np.full(len(far), most), far, ">", color=color)
            for place in np.flatnonzero(np.isfinite(found)):
                ends = min(every[place]), min(most, max(every[place]))
                ax.plot(ends, [place, place], color=color, linewidth=1)
        ax.set_yticks(range(len(methods)), methods, fontsize=8)
        ax.invert_yaxis()
        ax.set_title(name, fontsize=9)
        ax.grid(axis="y", alpha=0.3)
    axes[0].legend(fontsize=8)
    axes[-1].set(xscale="log", xlabel="perplexity of the test text")
    axes[-1].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1].xaxis.set_minor_formatter(ScalarFormatter())


FARTHEST = 3  # times the least perplexity: larger ones stand at the edge
STAGES = (
    ("perplexity", "pruned", BLUE, "o", "full"),
    ("perplexity, fine-tuned", "after an epoch on the labels", VERMILION, "s", "none"),
)


GATED = {
    "gates": (ORANGE, "s", "--"),
    "gates from spectral nodes": (VERMILION, "^", "-."),
    "spectral, then gates": (VERMILION, "^", "-."),
    "spectral, fine-tuned": (BLUE, "o", "-"),
}


def gates():
    """Quality against the parameters that are left, of gates, spectral pruning and both."""
    shown = [
        ("gates", "found (%)", "answers found (%)"),
        ("penn_gates", "perplexity", "perplexity"),
    ]
    _, axes = plt.subplots(1, len(shown), figsize=(10, 4), layout="constrained")
    for ax, (name, quality, label) in zip(axes, shown, strict=True):
        methods = {method: own for (method,), own in grouped(rows(name), ["method"]).items()}
        dense = np.mean(values_of(methods["dense, fine-tuned"], quality))
        ax.axhline(dense, color=GRAY, linewidth=1, label="dense, fine-tuned")
        for method in filter(methods.get, GATED):
            every = grouped(methods[method], ["setting"]).values()
            n_parameters = [np.mean(values_of(group, "parameters")) for group in every]
            found = [values_of(group, quality) for group in every]
            means_and_ranges(ax, n_parameters, found, method, GATED[method])
        ax.set(xlabel="parameters", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.legend()
