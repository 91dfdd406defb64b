"""Strategies that draw random nets out of the operators that models use."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from . import random_joints as joints
from . import random_sequence_steps as seq
from . import random_steps as steps
from .random_program import Form, Net, Step, after, after_all

READS = (
    Form("map", (3, 8, 8)),
    Form("map", (3, 8, 8)),
    Form("map", (2, 12)),
    Form("map", (1, 4, 4, 4)),
    Form("sequence", (5, 6)),
    Form("tokens", (6,)),
    Form("tokens", (6,)),
    Form("vector", (7,)),
)
WIDTHS = st.sampled_from((4, 6, 8, 2, 3, 5, 12, 1))
LARGEST = 3000
"""Entries of a sample, at most, before a step that makes more of them."""


def nets() -> st.SearchStrategy[Net]:
    """Random nets."""
    return _nets()


@st.composite
def _nets(draw: st.DrawFn) -> Net:
    reads = draw(st.sampled_from(READS))
    seed = draw(st.integers(0, 99))
    if reads.kind == "tokens" and draw(st.integers(0, 9)) == 0:
        return Net(reads, (seq.TiedVocabulary(draw(WIDTHS), draw(WIDTHS)),), seed)
    first = _producer(draw, reads)
    form = after(first, reads)
    body = draw(bodies(form, most=6, depth=2, least=1))
    form = after_all(body, form)
    return Net(reads, (first, *body, *_ends(draw, form)), seed)


def _ends(draw: st.DrawFn, form: Form) -> list[Step]:
    """To classes, to one value per position, or nothing: all that was made is an output."""
    how = draw(st.sampled_from(("classes", "classes", "positions", "nothing")))
    if how == "nothing":
        return []
    if how == "positions" and form.kind == "map":
        return [steps.Conv(2, 1)]
    ends: list[Step] = []
    if how == "classes" and form.kind == "map":
        ends.append(steps.ToVector(draw(st.sampled_from(("mean", "max", "flatten", "reshape", "view")))))
    if how == "classes" and form.kind == "sequence":
        ends.append(seq.OverTime(draw(st.sampled_from(("mean", "max", "first", "last", "weighted")))))
    return [*ends, seq.Linear(3)]


@st.composite
def bodies(
    draw: st.DrawFn, form: Form, *, most: int, depth: int, steady: bool = False, least: int = 0
) -> tuple[Step, ...]:
    """Steps one after the other.

    Args:
        draw: hypothesis.
        form: What the first one reads.
        most: Number of steps, at most.
        depth: Of steps that hold steps.
        steady: Whether all positions must stay.
        least: Number of steps, at least.
    """
    body: list[Step] = []
    for _ in range(draw(st.integers(least, most))):
        step = draw(_step(form, depth, steady))
        form = after(step, form)
        body.append(step)
    return tuple(body)


def _producer(draw: st.DrawFn, form: Form, out: int | None = None) -> Step:
    """Makes new channels."""
    out = out or draw(WIDTHS)
    if form.kind == "tokens":
        return seq.Embed(out)
    if form.kind == "map":
        return draw(st.sampled_from((steps.Conv(out), steps.Conv(out, 1, bias=False), steps.EinsumConv(out))))
    hows = ("matmul", "addmm", "einsum")
    return draw(
        st.sampled_from((seq.Linear(out), seq.Linear(out, bias=False), *(seq.MatrixLinear(out, h) for h in hows)))
    )


@st.composite
def _returning(draw: st.DrawFn, form: Form, depth: int, width: int | None = None) -> tuple[Step, ...]:
    """A body that makes what it reads, or that with another width."""
    body = draw(bodies(form, most=3, depth=depth, steady=True, least=1))
    width = width or form.width
    made = after_all(body, form)
    return body if made.width == width and draw(st.booleans()) else (*body, _producer(draw, made, width))


@st.composite
def _step(draw: st.DrawFn, form: Form, depth: int, steady: bool) -> Step:
    own = {"map": _map_steps, "sequence": _sequence_steps, "vector": _vector_steps}[form.kind]
    sort = draw(st.sampled_from(("own", "any", "nested") if depth else ("own", "any")))
    if sort == "nested":
        choices = _nested_steps(draw, form, depth - 1, steady)
    else:
        choices = own(draw, form, steady) if sort == "own" else _any_steps(draw, form)
    made = draw(st.sampled_from(choices))
    return made()


Choices = list[Callable[[], Step]]


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _any_steps(draw: st.DrawFn, form: Form) -> Choices:
    space = form.kind != "vector"
    norms = ["batch", "layer", "rms", "hand-rms", "hand-layer"]
    norms += ["instance", "group"] if form.kind == "map" and form.space != (1,) * len(form.space) else []

    def norm() -> Step:
        name = draw(st.sampled_from(norms))
        groups = draw(st.sampled_from(_divisors(form.width))) if name == "group" else 1
        return steps.Norm(name, groups, draw(st.integers(0, 4)) > 0)

    def over_channels() -> Step:
        names = "mean gate softmax normalize cumsum cummax sort flip roll divide narrow".split()
        return joints.OverChannels(draw(st.sampled_from(names)))

    choices: Choices = [
        norm,
        norm,
        lambda: steps.Activate(draw(st.sampled_from(list(steps.ACTIVATIONS)))),
        lambda: steps.Activate(draw(st.sampled_from(list(steps.ACTIVATIONS)))),
        lambda: joints.Scale(draw(st.booleans()), draw(st.booleans()), draw(st.booleans())),
        lambda: joints.Tied(draw(WIDTHS), draw(st.booleans())),
        lambda: _producer(draw, form),
        lambda: _producer(draw, form),
        over_channels,
    ]
    if form.width % 2 == 0:
        choices.append(joints.Glu)
    if form.dim == 1 and space:
        choices.append(lambda: steps.PRelu(draw(st.booleans())))
    return choices


def _nested_steps(draw: st.DrawFn, form: Form, depth: int, steady: bool) -> Choices:  # noqa: C901  a table of steps
    def inner(most: int = 3, least: int = 0) -> tuple[Step, ...]:
        return draw(bodies(form, most=most, depth=depth, steady=True, least=least))

    def residual() -> Step:
        gated = draw(st.booleans())
        shortcuts = ["identity", "identity", "project"]
        strided = form.kind == "map" and not steady and all(size % 2 == 0 for size in form.space)
        shortcut = draw(st.sampled_from([*shortcuts, "pad"] if form.kind == "map" else shortcuts))
        if shortcut == "identity":
            return joints.Residual(draw(_returning(form, depth)), shortcut, gated)
        width = form.width + draw(st.sampled_from((0, 2, 4, 3))) if shortcut == "pad" else draw(WIDTHS)
        body = inner()
        if strided and draw(st.booleans()):
            made = after_all(body, form)
            return joints.Residual((*body, steps.Conv(made.width, 3, 2), steps.Conv(width, 1)), shortcut, gated)
        return joints.Residual(draw(_returning(form, depth, width)), shortcut, gated)

    def tower() -> Step:
        blocks = (
            joints.Residual(draw(_returning(form, depth)), gated=draw(st.booleans()))
            for _ in range(draw(st.integers(2, 3)))
        )
        return joints.Chain(tuple(blocks))

    def concat() -> Step:
        branches = tuple(inner(least=1) for _ in range(draw(st.integers(1, 3))))
        return joints.Concat(branches, draw(st.booleans()))

    def split() -> Step:
        join = draw(st.sampled_from(("cat", "cat", "add", "gate")))
        count = draw(st.sampled_from([d for d in _divisors(form.width) if d > 1][:2]))
        sizes = [form.width // count] * count
        how = draw(st.sampled_from(("split", "chunk", "part", "narrow")))
        if join == "cat" and draw(st.integers(0, 2)) == 0:
            first = draw(st.integers(1, form.width - 1))
            sizes, how = [first, form.width - first], "split"
        forms = [Form(form.kind, (*form.space, s) if form.dim == -1 else (s, *form.space)) for s in sizes]
        made = [
            draw(bodies(part, most=2, depth=depth, steady=True) if join == "cat" else _returning(part, depth))
            for part in forms
        ]
        return joints.Split(tuple(sizes), tuple(made), how, join)

    def dense() -> Step:
        layers: list[Step] = []
        now = form
        for _ in range(draw(st.integers(2, 3))):
            body = draw(bodies(now, most=1, depth=0, steady=True))
            layers.append(joints.Concat(((*body, _producer(draw, after_all(body, now), draw(WIDTHS))),), keep=True))
            now = after(layers[-1], now)
        return joints.Chain(tuple(layers))

    def unet() -> Step:
        small = Form("map", (form.width, *(size // 2 for size in form.space)))
        return joints.UNet(draw(bodies(small, most=2, depth=depth, steady=True)), draw(st.booleans()))

    def window() -> Step:
        body = draw(_returning(Form("sequence", (4, form.width)), 0))
        return steps.Window((_attention(draw, form.width), *body))

    choices: Choices = [
        residual,
        residual,
        tower,
        concat,
        dense,
        lambda: joints.Chain(inner(least=2)),
        lambda: joints.Twice(draw(_returning(form, depth))),
    ]
    if form.width > 1:
        choices += [split, split]
    if form.kind == "map" and all(size % 2 == 0 for size in form.space):
        choices.append(unet)
        if len(form.space) == 2:
            choices += [window, window]
    return choices


def _map_steps(draw: st.DrawFn, form: Form, steady: bool) -> Choices:  # noqa: C901  a table of steps
    space = form.space
    entries = form.width * _numel(space)

    def conv() -> Step:
        groups = draw(st.sampled_from(_divisors(form.width)))
        out = groups * draw(st.sampled_from((1, 2, 3))) if groups > 1 else draw(WIDTHS)
        kernel = draw(st.sampled_from((1, 3)))
        stride = 1 if steady or min(space) < 2 else draw(st.sampled_from((1, 1, 2)))
        padding = draw(st.sampled_from(("zeros", "zeros", "circular", "reflect"))) if min(space) > 1 else "zeros"
        return steps.Conv(out, kernel, stride, groups, draw(st.booleans()), padding)

    def depthwise() -> Step:
        return steps.Conv(form.width * draw(st.sampled_from((1, 1, 2))), 3, 1, form.width, draw(st.booleans()))

    def transposed() -> Step:
        groups = draw(st.sampled_from(_divisors(form.width)))
        return steps.TransposedConv(groups * draw(st.sampled_from((1, 2, 3))), groups, draw(st.booleans()))

    def excite() -> Step:
        gate = draw(st.sampled_from(("sigmoid", "hardsigmoid", "softplus")))
        return steps.SqueezeExcite(draw(WIDTHS), draw(st.booleans()), gate)

    groups = [d for d in _divisors(form.width) if 1 < d < form.width]
    choices: Choices = [conv, conv, depthwise, excite, lambda: steps.SpatialGate(draw(st.booleans()))]
    if groups:
        choices.append(lambda: steps.ChannelShuffle(draw(st.sampled_from(groups)), draw(st.booleans())))
    if steady:
        return choices
    if len(space) == 2 and min(space) > 2:
        names = "flip roll crop every-other pad reflect circular replicate".split()
        choices.append(lambda: steps.FixedSlice(draw(st.sampled_from(names))))
    if len(space) == 2 and form.width % 4 == 0 and entries <= LARGEST:
        choices.append(lambda: steps.PixelShuffle(up=True))
    if len(space) == 2 and all(size % 2 == 0 for size in space):
        choices.append(lambda: steps.PixelShuffle(up=False))
    if min(space) > 1:
        choices.append(lambda: steps.Pool(draw(st.sampled_from(list(steps.POOLS)))))
    if entries * 2 ** len(space) <= LARGEST:
        choices += [transposed, lambda: steps.Resize(draw(st.sampled_from(("nearest", "linear"))), draw(st.booleans()))]
    if _numel(space) <= 32:
        choices.append(steps.ToSequence)
    choices.append(lambda: steps.ToVector(draw(st.sampled_from(("mean", "max", "flatten", "reshape", "view")))))
    return choices


def _attention(draw: st.DrawFn, width: int) -> Step:
    heads = draw(st.sampled_from((2, 4, 1, 3)))
    keys = draw(st.sampled_from((heads, *_divisors(heads))))
    size = draw(st.sampled_from((2, 3, 4)))
    product = draw(st.sampled_from(("sdpa", "matmul", "bmm", "einsum")))
    sizes = draw(st.sampled_from(("both", "heads", "size")))
    packed = keys == heads and draw(st.booleans())
    rotary = size % 2 == 0 and draw(st.booleans())
    rest = [draw(st.booleans()) for _ in range(4)]
    return seq.Attention(heads, size, keys, product, sizes, packed, rotary, *rest)


def _sequence_steps(draw: st.DrawFn, form: Form, steady: bool) -> Choices:
    def multihead() -> Step:
        heads = draw(st.sampled_from(_divisors(form.width)))
        return seq.Multihead(heads, *(draw(st.booleans()) for _ in range(3)))

    def encoder() -> Step:
        return seq.EncoderLayer(draw(st.sampled_from(_divisors(form.width))), draw(WIDTHS), draw(st.booleans()))

    def recurrent() -> Step:
        name = draw(st.sampled_from(("lstm", "gru", "rnn")))
        hidden = draw(WIDTHS)
        projection = draw(st.integers(0, hidden - 1)) if name == "lstm" and draw(st.booleans()) else 0
        rest = [draw(st.booleans()) for _ in range(2)]
        last = not steady and draw(st.booleans())
        return seq.Recurrent(name, hidden, draw(st.integers(1, 3)), draw(st.integers(1, 2)), projection, *rest, last)

    choices: Choices = [
        lambda: _attention(draw, form.width),
        lambda: _attention(draw, form.width),
        multihead,
        encoder,
        recurrent,
        recurrent,
        lambda: seq.FeedForward(draw(WIDTHS), draw(st.sampled_from(("plain", "gated", "packed")))),
        lambda: seq.MixTokens(draw(WIDTHS)),
        lambda: seq.Position(draw(st.sampled_from(("parameter", "buffer", "embedding")))),
    ]
    if not steady:
        choices += [
            seq.ClassToken,
            seq.ToMap,
            lambda: seq.OverTime(draw(st.sampled_from(("mean", "max", "first", "last", "weighted")))),
        ]
    return choices


def _vector_steps(draw: st.DrawFn, form: Form, steady: bool) -> Choices:
    choices: Choices = [
        lambda: seq.FeedForward(draw(WIDTHS), draw(st.sampled_from(("plain", "gated", "packed")))),
        lambda: seq.Outer(draw(st.sampled_from((2, 3, 4))), draw(st.booleans())),
    ]
    if not steady and form.width % 4 == 0:
        choices.append(lambda: seq.Unflatten(2))
    return choices


def _numel(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
