"""Python source text of modules, and of the classes that they need beside those of torch."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from ..rnn.runtime import inputs, kinds, posing, resizing, stack, wrappers
from ..rnn.serialization import described, like_of

# Every class comes after those that it is derived from.
FILES = (kinds, posing, wrappers, stack, inputs, resizing)
ALWAYS = {"Path": ("pathlib", "Path"), "torch": ("", "torch"), "nn": ("torch", "nn")}
WIDTH = 100
# Options that need not be written.
DEFAULTS = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "nonlinearity": "tanh",
}
# An expression: text, or an opening bracket with what stands before it, items, and the closing one.
Expression = str | tuple[str, list[Any], str]


def expression_of(part: Mapping[str, Any], with_dtype: bool) -> Expression:
    """Return the expression that makes the part of a description, with arbitrary weights."""
    kind = part["kind"]
    if kind == "StackedRNN":
        like = expression_of(described(like_of(part)), with_dtype=False)
        layers = [
            (f'"{name}": {made[0]}', *made[1:])
            for name, layer in part["layers"].items()
            if (made := expression_of(layer, with_dtype))
        ]
        return f"{kind}(", [("{", layers, "}"), like], ")"
    if "rnn" in part:
        inner, size = expression_of(part["rnn"], with_dtype), str(part["size"])
        if isinstance(part["kept"], int):
            return f"{kind}(", [inner, f"torch.arange({part['kept']})", size], ")"
        supports = ("[", [f"torch.arange({m})" for m in part["kept"]], "]")
        if "Initial" in kind:
            return f"{kind}(", [inner, supports, str(part["nodes"]), size], ")"
        dtype = [f"dtype=torch.{part['dtype']}"] * with_dtype
        maps = [
            ("nn.Linear(", [str(m), str(n), *dtype], ")")
            for m, n in zip(part["kept"], part["nodes"], strict=True)
        ]
        cells = maps if part["cells"] else []
        small = ["True"] * part["small_states"]
        return f"{kind}(", [inner, supports, ("[", maps, "]"), ("[", cells, "]"), size, *small], ")"
    given = [
        f"{name}={json.dumps(each) if isinstance(each, str) else each}"
        for name, each in part["options"].items()
        if each != DEFAULTS[name]
    ]
    given += [f"dtype=torch.{part['dtype']}"] * with_dtype
    return f"nn.{kind}(", [*map(str, part["sizes"]), *given], ")"


def tensor_expression(tensor: Tensor, with_dtype: bool) -> Expression:
    """Return the expression that makes a tensor of the same shape, with arbitrary entries."""
    shape = [str(n) for n in tensor.shape] or ["()"]
    differs = with_dtype or not tensor.is_floating_point()
    empty = ("torch.empty(", shape + [f"dtype={tensor.dtype}"] * differs, ")")
    if not isinstance(tensor, nn.Parameter):
        return empty
    frozen = ["requires_grad=False"] * (not tensor.requires_grad)
    return "nn.Parameter(", [empty, *frozen], ")"


def place_of(module: nn.Module, path: str) -> str:
    """Return the expression of a submodule, parameter or buffer of ``module``."""
    text, part = "module", module
    for name in filter(None, path.split(".")):
        if isinstance(part, (nn.Sequential, nn.ModuleList, nn.ParameterList)) and name.isdigit():
            text += f"[{name}]"
        elif issubclass(type(part), (nn.ModuleDict, nn.ParameterDict)):
            text += f"[{json.dumps(name)}]"
        else:
            text += f".{name}" if name.isidentifier() else f"._modules[{json.dumps(name)}]"
        part = getattr(part, name)
    return text


def statement(expression: Expression, before: str = "", after: str = "", indent: int = 4) -> str:
    """Return an expression between other text, in as many lines as it needs."""
    line = f"{' ' * indent}{before}{flat(expression)}{after}"
    if isinstance(expression, str) or len(line) <= WIDTH:
        return line
    start, items, end = expression
    inner = [statement(item, after=",", indent=indent + 4) for item in items]
    return "\n".join([f"{' ' * indent}{before}{start}", *inner, f"{' ' * indent}{end}{after}"])


def flat(expression: Expression) -> str:
    """Return an expression in one line."""
    if isinstance(expression, str):
        return expression
    start, items, end = expression
    return f"{start}{', '.join(map(flat, items))}{end}"


def file_text(function: str, title: str) -> str:
    """Return the text of a file with a function, and all that it needs beside torch."""
    known, imports = definitions()
    needed, new = set[str](), names_in(ast.parse(function))
    while new:
        needed |= new
        new = {each for name in new & known.keys() for each in known[name][1]} - needed
    texts = [text for name, (text, _) in known.items() if name in needed]
    lines = import_lines(imports[name] for name in sorted(needed & imports.keys()))
    return f'"""{title}"""\n\n{lines}\n\n\n' + "\n\n\n".join([function, *texts]) + "\n"


@cache
def definitions() -> tuple[dict[str, tuple[str, set[str]]], dict[str, tuple[str, str]]]:
    """Return text and names of all that the runtime modules define, and what they import.

    An import is a pair of a module, empty for a whole one, and a name with any other name for it.
    """
    known: dict[str, tuple[str, set[str]]] = {}
    imports: dict[str, tuple[str, str]] = dict(ALWAYS)
    for file in FILES:
        text = inspect.getsource(file)
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                source = getattr(node, "module", "")
                for alias in node.names:
                    if not getattr(node, "level", 0):
                        imports[alias.asname or alias.name] = (source, ast.unparse(alias))
                continue
            start = node.lineno - 1
            while lines[start - 1].startswith("#"):
                start -= 1
            own = "\n".join(lines[start : node.end_lineno])
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                known[node.name] = own, names_in(node)
            elif isinstance(node, ast.Assign):
                known[ast.unparse(node.targets[0])] = own, names_in(node)
    return known, imports


def names_in(node: ast.AST) -> set[str]:
    """Return the names that a syntax tree reads and does not set itself."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    own = {each.id for each in names if isinstance(each.ctx, ast.Store)}
    return {each.id for each in names} - own


def import_lines(imports: Iterable[tuple[str, str]]) -> str:
    """Return the lines of imports as isort orders them: those of torch last."""
    lines: set[str] = set()
    groups: dict[str, list[str]] = {}
    for source, name in imports:
        if source and " as " not in name:
            groups.setdefault(source, []).append(name)
        else:
            lines.add(f"from {source} import {name}" if source else f"import {name}")
    lines |= {f"from {source} import {', '.join(sorted(own))}" for source, own in groups.items()}
    ordered = sorted(lines, key=lambda line: (line.startswith("from"), line))
    sections = [
        [line for line in ordered if line.split()[1].startswith("torch") is is_torch]
        for is_torch in (False, True)
    ]
    return "\n\n".join("\n".join(section) for section in sections)
