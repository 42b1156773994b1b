"""What a compiled program does, read from its text: bytes moved, FLOPs, products, collectives."""

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

_BYTES = {"pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1}
_BYTES |= {"s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
_BYTES |= {"s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}
# These move nothing: names for what is there.
_FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "iota"}
_FREE |= {"partition-id", "replica-id", "opt-barrier", "add-dependency"}
_COLLECTIVES = r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?$"
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")


@dataclass
class Cost:
    """What a program, or a part of it, does once.

    Attributes:
        bytes_moved: operands and results of every kernel, each counted as read or written once.
        products: (type of the left, of the right operand, of the result) -> how many matrix
            products and convolutions; attention in one kernel counts once.
        flops: type of the operands -> floating-point operations of products, a multiply-add as two.
        collectives: kind -> how many.
        collective_bytes: results of the collectives.
        loops: cost of one turn of every loop that is run, in order.
    """

    bytes_moved: float = 0.0
    products: Counter = field(default_factory=Counter)
    flops: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    collectives: Counter = field(default_factory=Counter)
    collective_bytes: float = 0.0
    loops: list["Cost"] = field(default_factory=list)

    def add(self, other: "Cost", times: int = 1) -> None:
        """Adds a part that is run so many times."""
        self.bytes_moved += times * other.bytes_moved
        self.collective_bytes += times * other.collective_bytes
        for name in ("products", "flops", "collectives"):
            mine = getattr(self, name)
            for key, count in getattr(other, name).items():
                mine[key] += times * count

    def longest_loop(self) -> "Cost":
        """One turn of the loop that moves most; the whole where there is none."""
        return max(self.loops, key=lambda loop: loop.bytes_moved, default=self)


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    rest: str

    @property
    def target(self) -> str:
        found = re.search(r'custom_call_target="([^"]+)"', self.rest)
        return found.group(1) if found else ""


def program_cost(text: str) -> Cost:
    """The cost of a compiled program.

    Args:
        text: of JAX's `Compiled.as_text`.
    """
    return _Reader(text).cost_of_entry()


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
    """(type, axes) of an array, or of each array of a tuple."""
    found = re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", shape)
    return [(kind, [int(n) for n in axes.split(",") if n]) for kind, axes in found]


def _size(shape: str) -> int:
    return sum(_BYTES.get(kind, 0) * math.prod(axes) for kind, axes in _arrays(shape))


class _Reader:
    def __init__(self, text: str):
        self.computations: dict[str, dict[str, _Instruction]] = {}
        self.entry = ""
        current: dict[str, _Instruction] = {}
        for line in text.splitlines():
            if match := _COMPUTATION.match(line):
                current = self.computations[match.group(2)] = {}
                self.entry = match.group(2) if match.group(1) else self.entry
            elif match := _INSTRUCTION.match(line):
                name, shape, op, rest = match.groups()
                operands = tuple(re.findall(r"%([\w.\-]+)", rest.split("), ")[0]))
                current[name] = _Instruction(name, shape, op, operands, rest)
        self.known: dict[str, Cost] = {}

    def cost_of_entry(self) -> Cost:
        return self._cost(self.entry)

    def _called(self, instruction: _Instruction, *attributes: str) -> list[str]:
        names = "|".join(attributes)
        found = re.findall(rf"(?:{names})=\{{?((?:%?[\w.\-]+(?:, )?)+)", instruction.rest)
        return [n.strip().lstrip("%") for group in found for n in group.split(",") if n.strip()]

    def _cost(self, computation: str) -> Cost:
        if computation in self.known:
            return self.known[computation]
        total = Cost()
        for instruction in self.computations.get(computation, {}).values():
            self._add(total, instruction, computation)
        self.known[computation] = total
        return total

    def _add(self, total: Cost, instruction: _Instruction, computation: str) -> None:
        op = instruction.op
        if op in _FREE or op.endswith(("-done", "-update")):
            return
        if op == "while":
            for body in self._called(instruction, "body"):
                turn = self._cost(body)
                trips = re.search(r'"known_trip_count":\s*\{"n":\s*"(\d+)"', instruction.rest)
                total.add(turn, int(trips.group(1)) if trips else 1)
                total.loops += [turn, *turn.loops]
            return
        if op in ("call", "conditional", "async-start"):
            names = ("to_apply", "calls", "branch_computations", "true_computation")
            parts = [self._cost(c) for c in self._called(instruction, *names)]
            if parts:
                most = max(parts, key=lambda part: part.bytes_moved)
                total.add(most)
                total.loops += most.loops
            return
        moved = _size(instruction.shape) + sum(map(_size, self._shapes(instruction, computation)))
        total.bytes_moved += moved
        if match := re.match(_COLLECTIVES, op):
            total.collectives[match.group(1)] += 1
            arrays = self._shapes(instruction, computation)
            total.collective_bytes += sum(map(_size, arrays))
            return
        if op == "fusion":
            for inner in self._called(instruction, "calls"):
                self._add_products(total, inner)
        else:
            self._add_product(total, instruction, computation)

    def _shapes(self, instruction: _Instruction, computation: str) -> list[str]:
        inside = self.computations[computation]
        return [inside[name].shape for name in instruction.operands if name in inside]

    def _add_products(self, total: Cost, computation: str) -> None:
        """The products inside a fusion, whose operands are not moved."""
        for instruction in self.computations.get(computation, {}).values():
            if instruction.op == "fusion":
                for inner in self._called(instruction, "calls"):
                    self._add_products(total, inner)
            else:
                self._add_product(total, instruction, computation)

    def _add_product(self, total: Cost, instruction: _Instruction, computation: str) -> None:
        kind = instruction.target or instruction.op
        if not (kind in ("dot", "convolution") or kind.startswith(("__cublas", "__cudnn$"))):
            return
        arrays = [array for shape in self._shapes(instruction, computation)
                  for array in _arrays(shape)]  # fmt: skip
        result = _arrays(instruction.shape)[0]
        if len(arrays) < 2:
            return
        (left, _), (right, _) = arrays[:2]
        total.products[left, right, result[0]] += 1
        total.flops[left] += _flops(kind, instruction.rest, arrays, result)


def _flops(kind: str, rest: str, arrays: list, result: tuple[str, list[int]]) -> float:
    (_, left), (_, right) = arrays[:2]
    if "fmha" in kind:
        found = re.search(r'"intermediate_tensor_shape":\s*\{.*?"dimensions":\s*(\[[^\]]*\])', rest)
        scores = math.prod(int(n) for n in json.loads(found.group(1))) if found else 0
        # Forward two products of queries, keys and width; the derivative five.
        return 2.0 * scores * left[-1] * (5 if "Backward" in kind else 2)
    if kind == "convolution" or kind.startswith("__cudnn$conv"):
        return _convolution_flops(kind, rest, left, right, result[1])
    found = re.search(r'lhs_contracting_dim(?:ension)?s"?[=:]\s*[{\[]([^}\]]*)[}\]]', rest)
    axes = [int(n) for n in re.findall(r"\d+", found.group(1))] if found else []
    return 2.0 * math.prod(result[1]) * math.prod(left[i] for i in axes)


def _convolution_flops(
    kind: str, rest: str, left: list[int], right: list[int], result: list[int]
) -> float:
    """2 x outputs x taps x input channels, outputs and kernel being those of the forward pass."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", rest)
    outputs = labels.group(1).index("o") if labels else len(right) - 1
    if "BackwardFilter" in kind:
        return 2 * math.prod(right) * math.prod(result) / result[outputs]
    maps = left if "BackwardInput" in kind else result
    dilated = re.search(r"lhs_dilate=([\dx]+)", rest)
    # Rows and columns of zeros between those of a strided pass's derivative are no work.
    zeros = math.prod(int(n) for n in dilated.group(1).split("x")) if dilated else 1
    return 2 * math.prod(maps) * math.prod(right) / right[outputs] / zeros
