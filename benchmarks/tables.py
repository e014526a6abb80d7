"""Tables of the documentation, made from the files in ``results``."""

import csv
import json
from pathlib import Path

import numpy as np
from results import FOLDER

# Networks that no method has made.
LOADED = {"dense", "trained small from scratch", "small by distillation, full training"}
HIDDEN = {"seed", "date", "threads", "machine", "timed on", "tuned in (s)"}
HIDDEN |= {"of states", "of inputs"}  # parts of the parameters


def plain(content):
    """Head and rows of a table: means over seeds, with the range of several."""
    index, groups = content["index"], grouped(content["rows"], content["index"])
    names = dict.fromkeys(name for row in content["rows"] for name in row)
    columns = [name for name in names if name not in {*index, *HIDDEN}]
    places = {name: i for i, name in enumerate(columns)}
    columns.sort(key=lambda name: places[name.removesuffix(", fine-tuned")])
    yield [*index, "seeds", *columns]
    for key, rows in groups.items():
        loaded = LOADED & set(key)
        cells = [
            "–" if loaded and name == "made in (s)" else summary(values_of(rows, name), name)
            for name in columns
        ]
        yield [*key, len(rows), *cells]


def across(content, column, values, seconds=None, n_digits=3):
    """Like ``plain``, with one measured number in a column for each size or method."""
    index, place = content["index"], content["across"]
    groups = grouped(content["rows"], index)
    columns = list(dict.fromkeys(row[place] for row in content["rows"] if place in row))
    head = [f"{values}{column_name(each)}" for each in columns]
    yield [*index, "seeds", *head, *([seconds] if seconds else [])]
    for key, rows in groups.items():
        n_seeds = len({row.get("seed") for row in rows})
        found = ([row[column] for row in rows if row[place] == each] for each in columns)
        cells = [summary(each, n_digits=n_digits) for each in found]
        times = [row[seconds] for row in rows if seconds and seconds in row]
        yield [
            *key,
            n_seeds,
            *cells,
            *([f"{np.median(times):.1f}" if times else "–"] if seconds else []),
        ]


def column_name(value):
    """A part of the nodes in percent, or a name."""
    return f"{value:.0%}" if isinstance(value, float) else str(value)


def models(content):
    """Measures at every part of the nodes, by model and method, beside that of the dense model."""
    dense = {row["model"]: row["measure"] for row in content["rows"] if row["method"] == "dense"}
    pruned = [row for row in content["rows"] if row["method"] != "dense"]
    head, *rows = across(content | {"rows": pruned}, "measure", "", "fit (s)")
    measures = ([model, summary([dense[model]]), *cells] for model, *cells in rows)
    yield from named_once([["model", "dense", *head[1:]], *measures], 2)


def protocol(content):
    """Like ``plain``, with the name of the network in its first row only."""
    return named_once(plain(content), 1)


def named_once(rows, n_columns):
    """Rows whose first columns are empty where they repeat those above."""
    above = None
    for row in rows:
        names, cells = row[:n_columns], row[n_columns:]
        yield [*([""] * n_columns if names == above else names), *cells]
        above = names


def sizes(content):
    """Accuracy at every number of nodes, by method."""
    return across(content, "accuracy (%)", "", "fit (s)")


def levels(content):
    """Thousandths of divergence by method; its ratio to that of the fold in the geometric mean."""
    rows = [row | {"divergence": 1000 * row["divergence"]} for row in content["rows"]]
    yield from across(content | {"rows": rows}, "divergence", "", n_digits=2)
    folded = {
        place_of(row): row["divergence"] for row in content["rows"] if row["method"] == "folded"
    }
    ratios = {}
    for row in content["rows"]:
        ratio = row["divergence"] / folded[place_of(row)]
        ratios.setdefault(row["method"], {})[place_of(row)] = ratio
    means = [geometric_means(each, n_digits=2) for each in ratios.values()]
    yield ["mean ratio to folded", "", "", *means]


def regrets(content):
    """Divergence of every method over the least of all methods: mean, largest, where, seconds."""
    least, regret, seconds = {}, {}, {}
    for row in content["rows"]:
        place = place_of(row)
        least[place] = min(notable(row), least.get(place, np.inf))
    for row in content["rows"]:
        place, method = place_of(row), row["method"]
        regret.setdefault(method, {})[place] = notable(row) / least[place]
        seconds.setdefault(method, []).append(row["seconds"])
    yield ["method", "mean regret", "largest", "of", "fit (s)"]
    for method, own in regret.items():
        worst = max(own, key=own.get)
        at = f"{worst[0]}, {worst[1]:.0%}"
        largest, usual = summary([own[worst]]), f"{np.median(seconds[method]):.1f}"
        yield [method, geometric_means(own), largest, at, usual]


def geometric_means(ratios, n_digits=3):
    """Mean over the networks and sizes of each seed, with the range of the seeds."""
    logs = {}
    for (_, _, seed), ratio in ratios.items():
        logs.setdefault(seed, []).append(np.log(ratio))
    return summary([float(np.exp(np.mean(each))) for each in logs.values()], n_digits=n_digits)


NEGLIGIBLE = 1e-4  # divergence of outputs that nobody can tell from those of the dense network


def notable(row):
    """Divergence, without telling apart those that are negligible."""
    return max(row["divergence"], NEGLIGIBLE)


def place_of(row):
    """Where methods are compared."""
    return row["network"], row["kept"], row.get("seed", 0)


def latency(content):
    """Milliseconds of a sequence in both runtimes, and how many times less there is to compute."""
    yield [
        "network",
        "nodes",
        "parameters",
        "fewer multiply-adds",
        "torch (ms)",
        "ONNX Runtime (ms)",
        "dense torch to pruned ONNX Runtime",
    ]
    for row in content["rows"]:
        if row["batch"] != 1:
            continue
        pairs = [(row[f"{name} before (ms)"], row[f"{name} (ms)"]) for name in RUNTIMES]
        yield [
            row["network"],
            row["nodes"],
            f"{row['parameters before']:,} → {row['parameters']:,}",
            f"{row['times fewer multiply-adds']:.1f}×",
            *(f"{before:.3g} → {after:.3g}" for before, after in pairs),
            f"{pairs[0][0] / pairs[1][1]:.1f}×",
        ]


RUNTIMES = ("torch", "ONNX Runtime")


def optimality(content):
    """Losses over those of the optimum, by solver."""
    yield ["solver", "selections", "mean", "largest"]
    for (solver,), rows in grouped(content["rows"], ["solver"]).items():
        ratios = values_of(rows, "ratio")
        yield [solver, len(ratios), f"{np.mean(ratios):.4f}", f"{max(ratios):.3f}"]


def choosing(content):
    """Seconds and passes of one size and of ten, and their ratios."""
    yield [
        "trajectory_fit",
        "network",
        "choice",
        *(
            each
            for what in ("s", "passes")
            for each in (f"one size ({what})", f"ten ({what})", "ratio")
        ),
    ]
    for row in content["rows"]:
        (one, ten), (few, many) = row["seconds"], row["passes"]
        seconds = [f"{one:.2f}", f"{ten:.2f}", f"{ten / one:.2f}"]
        passes = [f"{few:,}", f"{many:,}", f"{many / few:.2f}"]
        yield [row["trajectory_fit"], row["network"], row["choice"], *seconds, *passes]


def phases(content):
    """Seconds and megabytes of every phase, on the CPU."""
    yield ["phase", "seconds", "MB"]
    for row in content["rows"]:
        if row["device"] == "cpu" and "seconds" in row:
            memory = f"{row['MB']:,.0f}" if "MB" in row else "–"
            yield [row["phase"], f"{row['seconds']:.1f}", memory]


def goals(content):
    """Return the rows of a table of goals: what was measured, the goal, and whether it is met."""
    known = {"part", "what", "size", "of", "measured", "sign", "goal", "met", *HIDDEN}
    beside = list(dict.fromkeys(key for row in content["rows"] for key in row if key not in known))
    yield ["", "size", "threads", "ratio", "goal", "", "relative to", *beside]
    for row in content["rows"]:
        yield [
            row["what"],
            row["size"],
            row["threads"],
            f"{row['measured']:.3f}",
            f"{row['sign']} {row['goal']:g}",
            "met" if row["met"] else "missed",
            row["of"],
            *(f"{row[name]:.2g}" if name in row else "–" for name in beside),
        ]


def outcomes(content):
    """Return the rows of a table of outcomes: layers down, packages across."""
    packages = dict.fromkeys(row["package"] for row in content["rows"])
    yield ["", *packages]
    for (layers,), rows in grouped(content["rows"], ["layers"]).items():
        found = {row["package"]: row["outcome"] for row in rows}
        yield [f"``{layers}``", *map(found.get, packages)]


TABLES = {
    "models": models,
    "pixels_sizes": sizes,
    "levels": levels,
    "pixels": protocol,
    "penn": protocol,
    "digits": protocol,
    "finetuning": protocol,
    "trajectory": regrets,
    "latency": latency,
    "choosing_m": choosing,
    "goals": goals,
    "large": phases,
    "optimality": optimality,
    "peers": outcomes,
}


def grouped(rows, index):
    """Rows by the keys that a row of the table is of."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in index), []).append(row)
    return groups


def values_of(rows, name):
    """Return the values of a column, of the rows that have it."""
    return [row[name] for row in rows if name in row]


def summary(values, name="", n_digits=3):
    """A mean, of times a median, and what it is between."""
    if not values:
        return "–"
    center = np.median if name.endswith(TIMES) else np.mean
    mean, least, most = center(values), min(values), max(values)
    if not np.isfinite(mean):
        return "not finite"
    if "perplexity" in name and mean >= LARGEST:
        return f"over {LARGEST:,}"
    power = int(np.floor(np.log10(abs(mean) or 1.0)))
    digits = 1 if name.endswith("(s)") else max(0, n_digits - 1 - power)
    mean, least, most = (f"{value:,.{digits}f}" for value in (mean, least, most))
    return mean if least == most else f"{mean} ({least}–{most})"


TIMES = ("(s)", "ms")  # a run beside others can take many times as long
LARGEST = 10_000  # words: a larger perplexity is worse than that of a guess


def write_tables(folder):
    """Write a CSV file for every results file, or for every part of one that has parts."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(FOLDER).glob("*.json")):
        for name, content in parted(path.stem, json.loads(path.read_text())):
            with (folder / f"{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(TABLES.get(path.stem, plain)(content))


def parted(name, content):
    """Names and contents of the tables of a results file."""
    if "part" not in content["index"]:
        yield name, content
        return
    for (part,), rows in grouped(content["rows"], ["part"]).items():
        yield f"{name}_{part.replace(' ', '_')}", content | {"rows": rows}
