"""What becomes of the graphs that the lines of claims make: how long they live, and which backward goes through them.

Nothing here holds on to a graph.  A *token* hangs on the node that computed a value and dies with it; nodes are told apart by
their sequence numbers, which autograd gives to each as it is made.
"""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

KEY = "_gradlint_token"
GRAPHS = frozenset(("graph-outlives", "carried", "let-through", "leaks-into"))
"""The claims that ask what becomes of a graph."""
MOST_TOKENS = 512
"""Values that are followed for one claim."""
MOST_GONE = 4
"""The last backwards whose nodes are known to be spent."""
DEEPEST = 400
"""Nodes below a value that are known by number: enough to see that a backward shares some of them."""
MOST_NODES = 20_000
"""Nodes of one loss's graph that are looked at."""


class Token:
    """A value with a graph that passed a claim's line.

    ``turn``: how often the line had run then.  ``number``: its node's sequence number, and ``below`` those of the nodes behind
    it.  ``live``: the leaves behind the value, as a set of bits.  ``spent``: a backward went through some of its graph.
    ``idle``: a backward has passed it by since one last used it.
    """

    __slots__ = ("__weakref__", "below", "idle", "live", "number", "spent", "turn")

    def __init__(self, node: Any, turn: int, live: int) -> None:
        self.turn = turn
        self.live = live
        self.idle = False
        self.number = sequence_number(node)
        self.below = {sequence_number(each) for each in nodes([node], DEEPEST)}
        self.spent = False


class Graphs:
    """What was seen, by claim.

    ``values``: values that passed the line.  ``turns``: how often it ran with one.  ``most_alive``: the largest number of
    earlier turns whose graphs were still there when the line ran again, passed by by a backward.  ``late``: backwards that used
    such a graph after all.  ``again``: those that went through the graph of an earlier turn, and found it spent; ``reused``:
    those that did so with a graph of any turn.  ``through``: those that went through a value, and ``arrived`` the leaves behind
    one that got a gradient from them.  ``live_of``: tells the leaves behind a tensor.
    ``wanted``: whether any claim asks for this.
    """

    def __init__(self, live_of: Callable[[Any], int], wanted: bool) -> None:
        self.live_of = live_of
        self.wanted = wanted
        self._gone: deque[set[int]] = deque(maxlen=MOST_GONE)
        self.tokens: dict[int, list[weakref.ref[Token]]] = defaultdict(list)
        self.values: Counter[int] = Counter()
        self.with_graph: Counter[int] = Counter()
        self.turns: Counter[int] = Counter()
        self.most_alive: Counter[int] = Counter()
        self.late: Counter[int] = Counter()
        self.again: Counter[int] = Counter()
        self.reused: Counter[int] = Counter()
        self.through: Counter[int] = Counter()
        self.arrived: Counter[int] = Counter()
        self._last: dict[int, int] = {}

    def passes(self, claim: int, value: Any, turn: int) -> None:
        """A value passes the line of a claim, which runs for the ``turn``-th time."""
        if self._last.get(claim) != turn:
            self._last[claim] = turn
            self.turns[claim] += 1
            old = {token.turn for token in self.alive(claim) if token.turn < turn and token.idle}
            self.most_alive[claim] = max(self.most_alive[claim], len(old))
        for tensor in tensors_within(value):
            self.values[claim] += 1
            node = tensor.grad_fn
            if node is None:
                continue
            self.with_graph[claim] += 1
            if len(self.tokens[claim]) < MOST_TOKENS:
                token = Token(node, turn, self.live_of(tensor))
                token.spent = any(not numbers.isdisjoint(token.below) for numbers in self._gone)
                node.metadata.setdefault(KEY, []).append(token)
                self.tokens[claim].append(weakref.ref(token))

    def alive(self, claim: int) -> Iterator[Token]:
        """The tokens whose graphs are still there."""
        for reference in self.tokens[claim]:
            token = reference()
            if token is not None:
                yield token

    def backward(self, losses: Sequence[Any]) -> dict[int, int]:
        """A backward is about to go through graphs; the leaves behind the values that it goes through, by claim."""
        behind: dict[int, int] = {}
        if not self.wanted:
            return behind
        waiting = [(claim, token) for claim in self.tokens for token in self.alive(claim)]
        numbers = {sequence_number(node) for node in nodes([loss.grad_fn for loss in losses if loss.grad_fn is not None])}
        self._gone.append(numbers)
        late, again, reused = set(), set(), set()
        for claim, token in waiting:
            used = token.number in numbers
            if used and token.idle:
                late.add(claim)
            if used and token.spent:
                reused.add(claim)
                if token.turn < self._last[claim]:
                    again.add(claim)
            if used:
                behind[claim] = behind.get(claim, 0) | token.live
            token.idle = not used
            token.spent = token.spent or not numbers.isdisjoint(token.below)
        self.late.update(late)
        self.again.update(again)
        self.reused.update(reused)
        self.through.update(behind.keys())
        return behind


def nodes(starts: Iterable[Any], most: int = MOST_NODES) -> set[Any]:
    """The operations in the graphs above which ``starts`` stand, themselves among them; without the leaves' own nodes."""
    stack = list(starts)
    seen = set(stack)
    position = 0
    while position < len(stack) and len(seen) < most:
        for following, _ in stack[position].next_functions:
            if following is not None and following not in seen and following.next_functions:
                seen.add(following)
                stack.append(following)
        position += 1
    return seen


def sequence_number(node: Any) -> int:
    """The number that autograd gave to a node when it was made."""
    return int(node._sequence_nr())


def tensors_within(value: Any, depth: int = 4) -> Iterator[Any]:
    """The tensors in a value: in containers, and in the attributes of plain objects."""
    if isinstance(value, torch.Tensor):
        yield value
    elif not depth or isinstance(value, (str, bytes, torch.nn.Module, type)):
        return
    elif isinstance(value, dict):
        for element in list(value.values()):
            yield from tensors_within(element, depth - 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for element in list(value):
            yield from tensors_within(element, depth - 1)
    elif hasattr(value, "__dict__") and not callable(value):
        for element in list(vars(value).values()):
            yield from tensors_within(element, depth - 1)
