"""The protocol on the Penn Treebank: word language models, pruned to a third of their nodes.

Perplexity of the test text before and after an epoch of fine-tuning, parameters and latency, of
spectral pruning with and without reconstruction, of what it is compared with, of the defaults, and
of networks of the small size that were trained from scratch. Needs the networks of ``train.py``.
"""

import argparse
import copy
import time

import torch
from corpora import words
from language import LanguageNet, perplexity
from results import Results
from torch.nn.utils import prune as torch_prune
from tqdm import tqdm
from train import trained

from skspectral import FineTune, SpectralRNNPruner

PIECE, N_CALIBRATION = 70, 4096
# Name, nodes to keep, and the network of that size from scratch.
NETWORKS = {
    "words-rnn-128": (42, "words-rnn-42"),
    "words-rnn-128-tied": (42, "words-rnn-42"),
    "words-lstm-200": (66, None),
}
PLAIN = {"objective": "one-step", "n_refit": 0}
BARE = PLAIN | {"reconstruction": "none"}
METHODS = {
    "spectral": PLAIN,
    "spectral, no reconstruction": BARE,
    "random nodes": PLAIN | {"solver": "random"},
    "random nodes, no reconstruction": BARE | {"solver": "random"},
    "column sampling": PLAIN | {"solver": "column_norm"},
    "column sampling, no reconstruction": BARE | {"solver": "column_norm"},
    "default": {},
    "exchange": {"solver": "exchange"},
    "distilled": {"distill": 1},
}


def pieces(part):
    """Sequences of words and the words that follow each."""
    text = words()[part]
    n_pieces = (len(text) - 1) // PIECE
    return (text[i : i + n_pieces * PIECE].reshape(n_pieces, PIECE) for i in (0, 1))


def measures(module):
    """What a row of the table holds."""
    sizes = {name: weight.numel() for name, weight in module.named_parameters()}
    return {
        "perplexity": perplexity(module, words()["test"]),
        "recurrent weights": sum(size for name, size in sizes.items() if name.startswith("rnn")),
        "parameters": sum(sizes.values()),
        "ms for 100 words": latency(module),
    }


@torch.inference_mode()
def latency(module, repeats=15):
    """Median milliseconds for a sequence."""
    numbers, times = torch.arange(100)[None], []
    for _ in range(repeats):
        start = time.perf_counter()
        module(numbers)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[repeats // 2]


def pruned(network, method, seed):
    """A network, pruned."""
    module, (m, _) = trained(network), NETWORKS[network]
    X, y = pieces("train")
    pruner = SpectralRNNPruner(module, m, likelihood="categorical", random_state=seed)
    pruner.set_params(**METHODS[method])
    tuned = copy.copy(pruner).set_params(finetune=FineTune(1, lr=1e-3))
    found = measures(pruner.fit(X[:N_CALIBRATION]).pruned_module_)
    after = tuned.fit(X, y).pruned_module_
    return found | {"perplexity, fine-tuned": perplexity(after, words()["test"])}


def masked(network):
    """The dense network with as many weights as the pruned one, the others set to zero."""
    module, (m, _) = trained(network), NETWORKS[network]
    X, _ = pieces("train")
    small = SpectralRNNPruner(module, m, n_refit=0, objective="input").fit(X[:256]).pruned_module_
    amount = sum(p.numel() for p in module.parameters()) - sum(
        p.numel() for p in small.parameters()
    )
    parts = [(module.rnn, name) for name, _ in module.rnn.named_parameters() if "weight" in name]
    parts.append((module.head, "weight"))
    torch_prune.global_unstructured(parts, torch_prune.L1Unstructured, amount=amount)
    for part, name in parts:
        torch_prune.remove(part, name)
    return measures(module)


def untrained(network):
    """A network of the small size whose weights are random."""
    dense, (m, _) = trained(network), NETWORKS[network]
    torch.manual_seed(0)
    kind, n_inputs = type(dense.rnn).__name__, dense.embedding.embedding_dim
    return measures(LanguageNet(kind, n_inputs, m, n_layers=dense.rnn.num_layers).eval())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="all if none is named")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = Results("penn", ["network", "method"])
    for network in arguments.networks:
        results.row(lambda n=network: measures(trained(n)), network=network, method="dense")
        small = NETWORKS[network][1]
        if small:
            results.row(
                lambda n=small: measures(trained(n)), network=network, method="from scratch"
            )
        others = {"weights of least magnitude cut": masked, "random weights": untrained}
        for method, run in others.items():
            results.row(lambda n=network, run=run: run(n), network=network, method=method)
        jobs = [(method, seed) for method in METHODS for seed in range(arguments.seeds)]
        for method, seed in tqdm(jobs, network):
            results.row(
                lambda n=network, method=method, seed=seed: pruned(n, method, seed),
                network=network,
                method=method,
                seed=seed,
            )
