"""Build the smaller module: kept rows only, the reconstruction folded into every reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from torch import Tensor, nn

from ...utils.warn_user import warn_user
from ..forward_pass import ForwardPass
from ..layers.find import RecurrentLayer, joined, output_layers
from ..layers.sizes import set_sizes, sizes_in
from ..layers.stack import merge_layers
from ..layers.weights import copy_of, filled, n_parameters, without_computed_weights
from ..runtime.stack import StackedRNN
from ..runtime.wrappers import ExpandedCell, ExpandedRNN, InitialStateCell, InitialStateRNN
from ..tracing.methods import methods_calling
from ..tracing.readers import Readers
from .reduction import (
    LayerReduction,
    kept_entries,
    kept_states,
    narrowed,
    narrowed_weight,
    shrink_rnn,
)
from .verification import Judge

# Attributes of torch modules that hold the size of a weight.
SIZES = ("in_features", "in_channels", "num_features")


@dataclass(frozen=True)
class Plan:
    """Choices by which a smaller module is built.

    Parameters
    ----------
    unfolded : dict of str
        Hosts whose reconstruction remains a linear layer of its own, with the reason in words.
    started : frozenset of str
        Hosts that accept initial states of the old size.
    small_states : frozenset of str
        Unfolded hosts that return last states of the kept nodes only.
    sizes : frozenset of (str, str)
        Attributes that hold sizes of folded hosts and are changed: path of the module, and name.
    """

    unfolded: dict[str, str]
    started: frozenset[str] = frozenset()
    small_states: frozenset[str] = frozenset()
    sizes: frozenset[tuple[str, str]] = frozenset()


class Surgery:
    """Builder of smaller modules from one dense module.

    The plan is made once, on a trial reduction: the reconstruction is folded into the readers
    wherever the folded module computes the same as the given module with its states replaced.

    Parameters
    ----------
    module : nn.Module
        The dense module, with split layers; it is not changed.
    layers : sequence of RecurrentLayer
        Its layers.
    readers : Readers
        The readers of their hidden states.
    passes : sequence of ForwardPass
        Forward passes on which smaller modules are compared with the given one.
    given : nn.Module or None
        The module as users wrote it; None means ``module``.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[RecurrentLayer],
        readers: Readers,
        passes: Sequence[ForwardPass],
        given: nn.Module | None = None,
    ) -> None:
        self.module, self.layers, self.readers = module, tuple(layers), readers
        given = without_computed_weights(module if given is None else given)
        self._judge = Judge(given, self.layers, readers, passes)
        self._inner = frozenset(layer.host for layer in layers if layer.host)
        self._hosts = readers.by_name({layer.name: layer.host for layer in layers})
        self._plans: dict[bool, Plan] = {}
        self._last = Plan({})
        self._is_checked_whole = False

    def build(self, reductions: Mapping[str, LayerReduction]) -> nn.Module:
        """Return a smaller module; layers without a reduction keep all nodes."""
        reductions = self._whole(reductions)
        return self._built(reductions, self._planned(reductions))

    def build_checked(self, reductions: Mapping[str, LayerReduction]) -> nn.Module:
        """Return a smaller module that has been compared with the given module.

        Raises
        ------
        ValueError
            If it does not compute what it should, whichever way it is built.
        """
        reductions = self._whole(reductions)
        self._check_whole(reductions)
        affine = is_affine(reductions)
        plan = self._plans.get(affine)
        all_shrink = all(reduction.is_smaller for reduction in reductions.values())
        if plan is None and self._inner and all_shrink:
            plan = self._plans[affine] = self._settled(reductions)
        else:
            plan = self._planned(reductions)
            if objection := self._objection(reductions, plan):
                if not self._inner:
                    raise self._refusal(objection)
                plan = self._plans[affine] = self._settled(reductions)
        smaller = {layer.host for layer in self.layers if reductions[layer.name].is_smaller}
        stays = {host: why for host, why in plan.unfolded.items() if host in smaller}
        self._last = replace(plan, unfolded=stays)
        small = self._built(reductions, plan)
        if any(isinstance(part, StackedRNN) for part in small.modules()) and not self._judge.agree(
            merge_layers(small), small
        ):
            raise self._refusal("is read in another way while its levels are separate modules")
        return small

    def expanded(self, reductions: Mapping[str, LayerReduction]) -> nn.Module:
        """Return a smaller module in which every reconstruction is a linear layer of its own."""
        hosts = {layer.host for layer in self.layers}
        return self._built(self._whole(reductions), Plan(dict.fromkeys(hosts, "")))

    def grown(self, counts: Mapping[str, int], affine: bool) -> list[str]:
        """Return the layers of hosts that would have more parameters than in the dense module.

        Parameters
        ----------
        counts : dict of int
            Nodes to keep, by layer.
        affine : bool
            Whether reconstructions have a constant part.
        """
        sizes = {layer.name: layer.of(self.module).hidden_size for layer in self.layers}
        trial = {
            name: LayerReduction.keep_first(n, counts.get(name, n), affine)
            for name, n in sizes.items()
        }
        if not self._grown_hosts(self.expanded(trial), self._inner):
            return []
        plan = self._planned(trial)
        grown = self._grown_hosts(self._built(trial, plan), plan.unfolded)
        return [layer.name for layer in self.layers if layer.host in grown]

    def _grown_hosts(self, small: nn.Module, hosts: Iterable[str]) -> list[str]:
        """Return the hosts that have more parameters than in the dense module."""
        return [
            host
            for host in hosts
            if n_parameters(small.get_submodule(host))
            > n_parameters(self.module.get_submodule(host))
        ]

    def unfolded(self) -> dict[str, str]:
        """Return the hosts whose reconstruction remains a layer of its own, with the reason."""
        return dict(sorted(self._last.unfolded.items()))

    def warn(self, reductions: Mapping[str, LayerReduction]) -> None:
        """Warn of unfolded reconstructions, and of readers of the states that did not run."""
        for host, obstacle in self.unfolded().items():
            names = list(map(repr, self.names(host)))
            it, its = ("them", "their") if len(names) > 1 else ("it", "its")
            warn_user(
                f"The reconstruction of layer{'s' * (len(names) > 1)} {', '.join(names)} remains a "
                f"separate linear layer behind {it}, because {its} hidden state {obstacle}. "
                "See the page 'Whole models' of the user guide.",
            )
        for host in sorted(self._inner - self._last.unfolded.keys()):
            own = [reductions[layer.name] for layer in self.layers if layer.host == host]
            if any(reduction.is_smaller for reduction in own):
                self._warn_of_sizes(host)

    def _warn_of_sizes(self, host: str) -> None:
        """Warn of parts that may depend on the size of a host's states and did not run."""
        owner = next(layer.owner for layer in self.layers if layer.host == host)
        last = [layer.of(self.module) for layer in output_layers(self.layers, self.module, host)]
        widths = {last[0].hidden_size, sum(part.hidden_size for part in last)}
        found = [
            f"{path!r}, of {width} inputs, did not run on X"
            for path, sizes in self.readers.idle.items()
            for width in widths & set(sizes)
        ]
        others = methods_calling(self.module, owner) - self.readers.callers.get(host, set())
        found += [f"{name}() calls the layer and did not run on X" for name in sorted(others)]
        found += [
            f"attribute {name!r} keeps it"
            for name, kept in self.readers.kept.items()
            if kept == host
        ]
        if found:
            names = ", ".join(map(repr, self.names(host)))
            warn_user(
                f"The hidden state of layer {names} has fewer nodes in the "
                f"pruned module, which may not suit all that reads it: {'; '.join(found)}. "
                "Give batches on which all of the module runs, or do not use that part.",
            )

    def names(self, host: str) -> list[str]:
        """Return the names of the layers whose states a host outputs."""
        return [layer.name for layer in output_layers(self.layers, self.module, host)]

    def _whole(self, reductions: Mapping[str, LayerReduction]) -> dict[str, LayerReduction]:
        sizes = {layer.name: layer.of(self.module).hidden_size for layer in self.layers}
        return {
            name: reductions.get(name) or LayerReduction.keep_all(size)
            for name, size in sizes.items()
        }

    def _objection(self, reductions: Mapping[str, LayerReduction], plan: Plan) -> str | None:
        """Return what is wrong with the module that a plan builds; None if nothing is."""
        return self._judge.objection(merge_layers(self._built(reductions, plan)), reductions)

    def _check_whole(self, reductions: Mapping[str, LayerReduction]) -> None:
        """Raise if the module computes something else when it is rebuilt with all nodes kept."""
        if self._is_checked_whole:
            return
        if not any(reduction.is_smaller for reduction in reductions.values()):
            return  # the comparison of the plan does the same
        whole = {
            name: LayerReduction.keep_all(reduction.n_nodes)
            for name, reduction in reductions.items()
        }
        rebuilt = merge_layers(self._built(whole, Plan({})))
        if not self._judge.agree(rebuilt) and (objection := self._judge.objection(rebuilt, whole)):
            raise self._refusal(objection)
        self._is_checked_whole = True

    def _refusal(self, objection: str) -> ValueError:
        names = [repr(layer.name) for layer in self.layers]
        return ValueError(
            f"layer{'s' * (len(names) > 1)} {', '.join(names)} cannot be pruned, since its hidden "
            f"state {objection}; give a module in which torch's own layers run on what forward "
            "gives them."
        )

    def _planned(self, reductions: Mapping[str, LayerReduction]) -> Plan:
        affine = is_affine(reductions)
        if affine not in self._plans:
            sizes = {name: reduction.n_nodes for name, reduction in reductions.items()}
            trial = {
                name: LayerReduction.keep_first(n, max(1, n // 2), affine)
                for name, n in sizes.items()
            }
            self._plans[affine] = self._settled(trial)
        return self._plans[affine]

    def _settled(self, reductions: Mapping[str, LayerReduction]) -> Plan:
        """Return the plan that folds as many reconstructions as possible."""
        if not self._inner:
            return Plan({})
        not_foldable = dict(self.readers.not_foldable)
        if is_affine(reductions):
            not_foldable = {**self.readers.linear_only, **not_foldable}
        stays = {host: reason for host, reason in not_foldable.items() if host in self._inner}
        objection = ""
        for _ in range(2):
            for plan in self._plans_for(stays):
                found = self._objection(reductions, plan)
                if not found:
                    return self._with_fewest_sizes(reductions, plan)
                objection = found
            for host in self._inner - stays.keys():
                others = dict.fromkeys(self._inner - {host}, "")
                failed = [self._objection(reductions, plan) for plan in self._plans_for(others)]
                if all(failed):
                    stays = {**stays, host: str(failed[-1])}
        stays = {host: stays.get(host, objection) for host in self._inner}
        for plan in self._plans_for(stays):
            objection = self._objection(reductions, plan) or ""
            if not objection:
                return self._with_fewest_sizes(reductions, plan)
        raise self._refusal(objection)

    def _plans_for(self, unfolded: dict[str, str]) -> list[Plan]:
        """Return plans in the order of preference: those that change the least come first."""
        always, started = self.readers.startable, self.readers.started
        begins = [frozenset(each - unfolded.keys()) for each in (always, always | started)]
        small = frozenset(self.readers.last_unread & unfolded.keys())
        adapted = dict.fromkeys((frozenset(), self._size_attributes(unfolded)))
        choices = product(adapted, dict.fromkeys((small, frozenset())), dict.fromkeys(begins))
        return [Plan(unfolded, begin, states, sizes) for sizes, states, begin in choices]

    def _with_fewest_sizes(self, reductions: Mapping[str, LayerReduction], plan: Plan) -> Plan:
        """Return a plan that changes no attribute which only happens to have the size of states."""
        for each in sorted(plan.sizes):
            other = replace(plan, sizes=plan.sizes - {each})
            if not self._objection(reductions, other):
                plan = other
        return plan

    def _size_attributes(self, unfolded: Iterable[str]) -> frozenset[tuple[str, str]]:
        """Return the attributes of the user's modules that have the size of a folded host."""
        sizes = self._sizes(self._whole({}), self._inner - set(unfolded))
        return frozenset(
            (path, name)
            for path, part in self.module.named_modules()
            if not type(part).__module__.startswith(("torch.", __package__.partition(".")[0]))
            for name, size in sizes_in(part).items()
            if size in sizes
        )

    def _built(self, reductions: Mapping[str, LayerReduction], plan: Plan) -> nn.Module:
        parts, tensors = self._folded(self.readers.by_name(dict(reductions)), plan)
        for path, state in self.readers.buffers.items():
            tensors[path] = kept_states(
                tensor_at(self.module, path), state.kept(self._small_states(reductions, plan))
            )
        for host in {*plan.unfolded, *plan.started}:
            own = [layer for layer in self.layers if layer.host == host]
            if any(reductions[layer.name].is_smaller for layer in own):
                if host not in parts:
                    inner = {layer.of(self.module): parts.pop(layer.path) for layer in own}
                    parts[host] = copy_of(self.module.get_submodule(host), inner)
                kept = [reductions[layer.name] for layer in own]
                parts[host] = self._wrapped(parts[host], kept, host, plan)
        swaps: dict[Any, Any] = {
            **{self.module.get_submodule(path): part for path, part in parts.items()},
            **{tensor_at(self.module, path): tensor for path, tensor in tensors.items()},
        }
        small: nn.Module = copy_of(self.module, swaps)
        for path, tensor in tensors.items():
            changed = zip(tensor_at(self.module, path).shape, tensor.shape, strict=True)
            sizes = {old: new for old, new in changed if old != new}
            set_sizes(small.get_submodule(path.rpartition(".")[0]), SIZES, sizes)
        sizes = self._sizes(reductions, self._inner - plan.unfolded.keys())
        for path, name in plan.sizes:
            set_sizes(small.get_submodule(path), [name], sizes)
        return small

    def _folded(
        self, reductions: Mapping[str, LayerReduction], plan: Plan
    ) -> tuple[dict[str, nn.Module], dict[str, Tensor]]:
        """Return the parts and tensors into which reconstructions are folded, by path."""
        paths = {layer.path: layer for layer in self.layers}
        tensors: dict[str, Tensor] = {}
        parts: dict[str, nn.Module] = {
            path: shrink_rnn(self.module.get_submodule(path), reductions[layer.name])
            for path, layer in paths.items()
        }
        for reader in self.readers.readers:
            inside = paths[reader.path].host if reader.path in paths else None
            folded = {
                name: reductions[name]
                for name, _ in reader.runs
                if name and (self._folds(name, plan) or self._hosts[name] == inside != reader.path)
            }
            if folded and reader.weight:
                path = joined(reader.path, reader.weight)
                weight = tensors.get(path, tensor_at(self.module, path))
                tensors[path] = narrowed_weight(weight, reader, folded)
            elif folded:
                part = parts.get(reader.path, self.module.get_submodule(reader.path))
                parts[reader.path] = narrowed(part, reader, folded)
        for own in self.readers.node_parameters:
            names = {name for name, _ in own.runs if name is not None}
            kept = {name: reductions[name] for name in names if self._folds(name, plan)}
            tensors[own.path] = kept_entries(tensor_at(self.module, own.path), own, kept)
        return parts, tensors

    def _folds(self, name: str, plan: Plan) -> bool:
        return self._hosts[name] not in plan.unfolded

    def _small_states(
        self, reductions: Mapping[str, LayerReduction], plan: Plan
    ) -> dict[int, Tensor]:
        """Return the kept nodes of the layers that go on from small states, by number."""
        return {
            i: reductions[layer.name].support
            for i, layer in enumerate(self.layers)
            if layer.host not in plan.unfolded or layer.host in plan.small_states
        }

    def _sizes(
        self, reductions: Mapping[str, LayerReduction], hosts: Iterable[str]
    ) -> dict[int, int]:
        """Return new sizes of states by the old ones, as far as they are the same everywhere."""
        found: dict[int, set[int]] = {}
        for host in hosts:
            last = output_layers(self.layers, self.module, host)
            kept = [reductions[layer.name] for layer in last]
            n_nodes, m = kept[0].n_nodes, [len(each.support) for each in kept]
            found.setdefault(n_nodes, set()).update(m)
            found.setdefault(n_nodes * len(kept), set()).add(sum(m))
        return {size: new.pop() for size, new in found.items() if len(new) == 1}

    def _wrapped(
        self, part: nn.Module, reductions: list[LayerReduction], host: str, plan: Plan
    ) -> nn.Module:
        wide: Any = self.module.get_submodule(host)
        supports, size = [reduction.support for reduction in reductions], wide.hidden_size
        is_cell = isinstance(wide, nn.RNNCellBase)
        if host not in plan.unfolded:
            started_kind = InitialStateCell if is_cell else InitialStateRNN
            return started_kind(part, supports, [each.n_nodes for each in reductions], size)
        kind = ExpandedCell if is_cell else ExpandedRNN
        linear = [expanding(each.A, each.c, part) for each in reductions]
        small = host in plan.small_states
        started = host in self.readers.cells and not small
        cells = [expanding(*each.of_cells, part) for each in reductions] if started else []
        return kind(part, supports, linear, cells, size, small)


def expanding(A: Tensor, c: Tensor, like: nn.Module) -> nn.Linear:
    """Return a reconstruction as a linear layer."""
    n_nodes, m = A.shape
    return filled(nn.Linear(m, n_nodes, device="meta"), {"weight": A, "bias": c}, like)


def tensor_at(module: nn.Module, path: str) -> Tensor:
    """Return the parameter or buffer at a path."""
    owner, _, name = path.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), name)
    return tensor


def is_affine(reductions: Mapping[str, LayerReduction]) -> bool:
    """Return whether any reconstruction has a constant part."""
    return any(bool(reduction.c.any()) for reduction in reductions.values())
