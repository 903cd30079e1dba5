#!/usr/bin/env python3
"""Checks that imports run downwards from room to room in node/src, and in no circle in any crate.

A room is a top-level module of node/src. The picture of rooms in ARCHITECTURE.md gives their order, from
the top. A file imports from its own room and from rooms below it. The exceptions stand in ALLOWED, each with
its reason.

An import is a `use` line, or a path in the code that begins with `crate`, `self`, `super` or a child module.
A name that a file hands on by `pub use` counts for the file that defines it. Test modules do not count.

The research room, besides, names nothing that does IO, reads a clock or draws a random number.
"""

import re
import sys
from pathlib import Path

CRATES = ["node", "protocol", "trainer"]

# (file, file): why this one import may run upwards.
ALLOWED = {}

# What no file of the research room may name.
IMPURE = re.compile(
    r"\b(std::(?:fs|io|net|process|thread|env)|Instant|SystemTime|base::clock"
    r"|tokio|futures|libp2p|rand|git2|sled)\b"
)

USE = re.compile(r"^[ ]*((?:pub(?:\([^)]*\))?\s+)?)use\s+([^;]*);", re.M)
PATH = re.compile(r"(?<![\w:])((?:crate|super|self)(?:::\w+)+)")
CHILD = re.compile(r"(?<![\w:.])([a-z_]\w*)::(\w+)")
TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?mod \w+ \{")


def leaves(tree):
    """Splits the tree of a `use` line into its paths, each a list of names; renamings are left out."""
    tree = re.sub(r"\s+as\s+\w+", "", tree)
    tree = re.sub(r"\s+", "", tree)
    parts, depth, part = [], 0, ""
    for c in tree:
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += c
    parts.append(part)
    paths = []
    for part in filter(None, parts):
        start = part.find("{")
        if start < 0:
            paths.append(part.split("::"))
        else:
            prefix = part[:start].rstrip(":").split("::") if start else []
            paths.extend(prefix + path for path in leaves(part[start + 1 : -1]))
    return paths


def without_tests(text):
    """Returns the code of a file: no comments, and nothing after its test module begins."""
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r"pub\(in [\w:]+\)", "pub", TESTS.split(text)[0])


class Crate:
    """The modules of a crate, by their path as a tuple of names, with their code."""

    def __init__(self, modules):
        self.code = {path: without_tests(text) for path, text in modules.items()}
        self.handed_on = {}
        for path, code in self.code.items():
            for visibility, tree in USE.findall(code):
                if visibility.strip():
                    for leaf in leaves(tree):
                        self.handed_on.setdefault(path, {})[leaf[-1]] = leaf

    @classmethod
    def read(cls, folder):
        modules = {}
        for file in sorted(folder.rglob("*.rs")):
            path = file.relative_to(folder).with_suffix("").parts
            if path[-1] == "tests" or path[-1].endswith("_tests") or path == ("main",):
                continue
            modules[() if path == ("lib",) else path] = file.read_text()
        return cls(modules)

    def absolute(self, module, names):
        """Returns a path of names from the root of the crate; none for one that leads elsewhere."""
        if names[0] == "crate":
            return tuple(names[1:])
        if names[0] in ("self", "super"):
            base, names = list(module), list(names)
            while names and names[0] in ("self", "super"):
                if names.pop(0) == "super" and base:
                    base.pop()
            return tuple(base + names)
        return module + tuple(names) if module + (names[0],) in self.code else None

    def definer(self, path, depth=0):
        """Returns the module that defines what a path leads to, through what others hand on."""
        for length in range(len(path), -1, -1):
            module, rest = path[:length], path[length:]
            if module not in self.code:
                continue
            handed_on = self.handed_on.get(module, {})
            if rest and depth < 8 and rest[0] in handed_on:
                further = self.absolute(module, handed_on[rest[0]])
                if further is not None:
                    return self.definer(further + rest[1:], depth + 1)
            return module
        return None

    def imports(self):
        """Returns the modules that each module imports from."""
        graph = {}
        for module, code in self.code.items():
            used = [tree for visibility, tree in USE.findall(code) if not visibility.strip()]
            paths = [leaf for tree in used for leaf in leaves(tree)]
            body = USE.sub("", code)
            paths += [path.split("::") for path in PATH.findall(body)]
            paths += [list(path) for path in CHILD.findall(body) if module + (path[0],) in self.code]
            targets = set()
            for path in paths:
                if path[-1] in ("self", "*"):
                    path = path[:-1]
                whole = self.absolute(module, path) if path else None
                target = self.definer(whole) if whole is not None else None
                if target is not None and target != module:
                    targets.add(target)
            graph[module] = targets
        return graph


def circles(graph):
    """Returns the groups of modules that import each other in a circle (Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


def upward(graph, rooms):
    """Returns the imports that run from a room to one above it."""
    floor = {room: number for number, room in enumerate(rooms)}
    pairs = ((module, target) for module, targets in graph.items() for target in sorted(targets))
    return [
        (module, target)
        for module, target in pairs
        if module and target and floor.get(target[0], -1) < floor.get(module[0], -1)
    ]


def impure(crate, room):
    """Returns what the files of a room name of the world outside, as pairs of module and name."""
    found = []
    for module, code in crate.code.items():
        if module[:1] == (room,):
            used = ["::".join(leaf) for _, tree in USE.findall(code) for leaf in leaves(tree)]
            found += [(module, name) for name in sorted(set(IMPURE.findall("\n".join([code, *used]))))]
    return found


def rooms_of(architecture):
    """Returns the rooms of the picture: the first word of each line of the block called `rooms`."""
    block = re.search(r"^```rooms\n(.*?)^```", architecture, re.M | re.S)
    lines = block.group(1).splitlines() if block else []
    return [line.split()[0].rstrip("/") for line in lines if re.match(r"\w", line)]


def self_test():
    """A check that cannot fail says nothing: this one finds what was planted."""
    crate = Crate(
        {
            ("top",): "use crate::low::{thing, other::X as Y};\npub use crate::low::Z;",
            ("low",): "pub fn thing() {}\n",
            ("low", "other"): "use super::{third};\nfn f() { crate::top::call() }\n"
            "#[cfg(test)]\nmod tests { use crate::elsewhere; }",
            ("low", "third"): "use super::other::X;\nuse crate::top::Z;",
        }
    )
    graph = crate.imports()
    assert graph[("top",)] == {("low",), ("low", "other")}, graph
    assert graph[("low", "third")] == {("low", "other"), ("low",)}, graph
    assert upward(graph, ["top", "low"]) == [(("low", "other"), ("top",))], graph
    assert circles(graph) == [[("low", "other"), ("low", "third"), ("top",)]], circles(graph)
    assert impure(crate, "low") == [], impure(crate, "low")
    outside = impure(Crate({("low", "a"): "use std::{fmt, fs};\nfn f() { Instant::now() }"}), "low")
    assert outside == [(("low", "a"), "Instant"), (("low", "a"), "std::fs")], outside
    assert rooms_of("x\n```rooms\nmain\na/   one · two\n     more\n```\n") == ["main", "a"]


def main():
    self_test()
    root = Path(__file__).resolve().parent.parent
    rooms = rooms_of((root / "ARCHITECTURE.md").read_text())
    problems = []
    for name in CRATES:
        folder = root / name / "src"
        crate = Crate.read(folder)

        def shown(module):
            return f"{name}/src/{'/'.join(module) or 'lib'}.rs"

        graph = crate.imports()
        for group in circles(graph):
            for module in group:
                targets = ", ".join(shown(target) for target in sorted(graph[module]) if target in group)
                problems.append(f"a circle of {len(group)} files: {shown(module)} imports {targets}")
        if name != "node":
            continue
        top = {module[0] for module in crate.code if module}
        for room in sorted(top - set(rooms)):
            problems.append(f"{shown((room,))} is no room in ARCHITECTURE.md; move it into one")
        for room in rooms:
            if room not in top and room != "main":
                problems.append(f"the picture in ARCHITECTURE.md has a room `{room}`, and node/src has none")
        for module, thing in impure(crate, "research"):
            problems.append(f"{shown(module)} names `{thing}`; in research, time and chance are arguments")
        for module, target in upward(graph, rooms):
            if (shown(module), shown(target)) not in ALLOWED:
                problems.append(f"{shown(module)} imports {shown(target)}, which is in a room above its own")
    print("\n".join(problems) or "every import runs downwards")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
