"""The structure of each backbone as a drawing."""

from __future__ import annotations

from tools.figures.drawing import Drawing


def dcnv2() -> Drawing:
    """Cross tower above, deep tower below, side by side at the end."""
    d = Drawing(900, 250)
    raw = d.box(10, 103, "all features\nx", "data", 92)
    cross, deep = d.box(140, 42, "ReLU projection\ncross view, w", width=118), d.box(140, 164, "ReLU projection\ndeep view, h", width=118)
    d.chain(raw, cross)
    d.chain(raw, deep)
    last = cross
    for layer in range(2):
        x = 310 + 190 * layer
        product, times, plus = d.box(x, 42, "U (V x) + b", width=84), d.sign(x + 112, 64, "×"), d.sign(x + 150, 64, "+")
        d.chain(last, product, times, plus)
        d.arrow((276, 64), (276, 20), (x + 112, 20), times.top)
        d.arrow((x - 18, 64), (x - 18, 104), (x + 150, 104), plus.bottom)
        last = plus
    d.text(284, 15, "x0", anchor="start", colour="#475569")
    d.text(400, 119, "cross_layers, low rank or full", colour="#475569")
    layers = [d.box(310 + 120 * i, 164, "Dense h\nReLU", width=84) for i in range(3)]
    d.chain(deep, *layers)
    d.text(472, 228, "deep_layers - 1", colour="#475569")
    joined = d.box(728, 103, "concat", "fixed", 68)
    hidden = d.box(824, 103, "hidden\nw + h", "data", 66)
    d.chain(last, joined, hidden)
    d.chain(layers[-1], joined)
    return d


def masknet() -> Drawing:
    """One branch in full, its second block reading x0 for the mask, and the other branches beside it."""
    d = Drawing(900, 270)
    first = d.box(10, 34, "ReLU projection\nx0, width w", width=112)
    last = first
    for block, x in enumerate((170, 500)):
        aggregate, mask = d.box(x, 34, "Dense 2 w\nReLU", width=72), d.box(x + 92, 34, "Dense\nmask", width=58)
        times = d.sign(x + 121, 122, "×")
        dense, norm = d.box(x + 152, 100, "Dense h", width=64), d.box(x + 232, 100, "LN\nReLU", "norm", 48)
        d.chain(aggregate, mask)
        d.arrow(mask.bottom, times.top)
        d.chain(times, dense, norm)
        d.frame(x - 14, 22, 308, 142, "mask block")
        if block:
            d.arrow((140, 56), (140, 12), (x - 26, 12), (x - 26, 56), aggregate.left)
            d.arrow(last.right, (x - 4, 122), times.left)
        else:
            d.chain(first, aggregate)
            d.arrow((140, 56), (140, 122), times.left)
        last = norm
    d.text(420, 186, "sequential_blocks: the mask always reads x0, the input is the block before", colour="#475569")
    other = d.box(170, 204, "branch 2 ... P: the same, with weights of its own (parallel_blocks)", "data", 610, 36)
    d.arrow((140, 122), (140, 222), other.left)
    joined = d.box(816, 140, "concat", "fixed", 64)
    d.arrow(last.right, (848, 122), joined.top)
    d.arrow(other.right, (848, 222), joined.bottom)
    d.text(848, 100, "hidden: P h", colour="#475569")
    return d


def transformer() -> Drawing:
    """Token layers, an encoder layer with norms before attention and feed-forward network, pooling."""
    d = Drawing(900, 170)
    first = d.box(10, 58, "ReLU projection\nL d numbers", width=112)
    layers, tokens = d.box(144, 58, "token\nlayers", width=62), d.box(226, 58, "L tokens\nof width d", "data", 76)
    norm, attention = d.box(346, 58, "LN", "norm", 36), d.box(402, 58, "self-attention\nH heads of d", width=100)
    plus = d.sign(532, 80, "+")
    second, ffn, again = d.box(566, 58, "LN", "norm", 36), d.box(622, 58, "d → f → d", width=76), d.sign(726, 80, "+")
    last, pool = d.box(772, 58, "LN", "norm", 36), d.box(828, 58, "mean\n→ d", "fixed", 60)
    d.chain(first, layers, tokens, norm, attention, plus, second, ffn, again, last, pool)
    d.arrow((330, 80), (330, 32), (532, 32), plus.top)
    d.arrow((555, 80), (555, 32), (726, 32), again.top)
    d.frame(318, 18, 432, 132, "× layers")
    return d


def rankmixer() -> Drawing:
    """The layer, and below it where token mixing puts each head."""
    d = Drawing(900, 300)
    first = d.box(10, 58, "ReLU projection\nT D numbers", width=112)
    layers, tokens = d.box(144, 58, "token\nlayers", width=62), d.box(226, 58, "T tokens\nof width D", "data", 76)
    mixing, plus, norm = d.box(350, 58, "token mixing\nT heads", "fixed", 96), d.sign(476, 80, "+"), d.box(504, 58, "LN", "norm", 36)
    ffn, again, last = d.box(562, 58, "feed-forward\nper token", width=92), d.sign(684, 80, "+"), d.box(712, 58, "LN", "norm", 36)
    pool = d.box(812, 58, "mean\n→ D", "fixed", 66)
    d.chain(first, layers, tokens, mixing, plus, norm, ffn, again, last, pool)
    d.arrow((332, 80), (332, 32), (476, 32), plus.top)
    d.arrow((551, 80), (551, 32), (684, 32), again.top)
    d.frame(318, 18, 448, 132, "× layers")
    colours = ("#bfdbfe", "#fde68a", "#bbf7d0", "#fecaca")
    for row in range(4):
        for column in range(4):
            d.cell(250 + 24 * column, 176 + 28 * row, colours[row], f"{row + 1}.{column + 1}")
            d.cell(500 + 24 * column, 176 + 28 * row, colours[column], f"{column + 1}.{row + 1}")
    d.arrow((372, 230), (472, 230))
    d.text(422, 222, "mixing", colour="#475569")
    d.text(240, 234, "token . head", anchor="end", colour="#475569")
    d.text(612, 226, "token h of the output holds", anchor="start", colour="#475569")
    d.text(612, 242, "head h of every token", anchor="start", colour="#475569")
    return d


def wukong() -> Drawing:
    """Both blocks of a layer, joined, with the residual around them."""
    d = Drawing(900, 250)
    first = d.box(10, 96, "ReLU projection\nn d numbers", width=112)
    layers, tokens = d.box(144, 96, "token\nlayers", width=62), d.box(226, 96, "n tokens X\nof width d", "data", 80)
    products, norm = d.box(362, 40, "X (Xᵀ Y)\nn × k", width=84), d.box(466, 40, "LN", "norm", 36)
    mlp = d.box(522, 40, "MLP to\nn_F tokens", width=80)
    linear = d.box(442, 118, "W X, n_L tokens", width=120, height=36)
    joined, plus, last = d.box(636, 74, "concat", "fixed", 60), d.sign(720, 96, "+"), d.box(746, 74, "LN", "norm", 36)
    pool = d.box(826, 74, "flatten", "fixed", 64)
    d.chain(first, layers, tokens)
    d.chain(products, norm, mlp, joined, plus, last, pool)
    d.arrow(tokens.right, (334, 118), (334, 62), products.left)
    d.arrow((334, 118), (334, 136), linear.left)
    d.chain(linear, joined)
    d.arrow((334, 136), (334, 186), (720, 186), plus.bottom)
    d.text(560, 180, "residual; a mixture of tokens where n is not n_F + n_L", size=11, colour="#475569")
    d.text(480, 34, "factorization machine block", colour="#475569", size=11)
    d.text(502, 112, "linear compression block", colour="#475569", size=11)
    d.frame(320, 14, 476, 212, "× layers")
    return d


def dhen() -> Drawing:
    """Members on views of their own, mapped to embeddings, joined with the shortcut and normed."""
    d = Drawing(900, 250)
    raw = d.box(10, 90, "all features\nx", "data", 88)
    views = [d.box(128, y, f"views of\nmember {i}", width=84) for i, y in ((1, 34), (2, 104))]
    members = [d.box(262, y, text, width=104) for y, text in ((34, "member 1\n(a MaskNet)"), (104, "member 2\n(a RankMixer)"))]
    maps = [d.box(392, y, "l tokens\nof width d", width=84) for y in (34, 104)]
    joined = d.box(508, 69, "concat, sum or\nweighted sum", "fixed", 100)
    plus, norm = d.sign(646, 91, "+"), d.box(676, 69, "LN", "norm", 36)
    hidden = d.box(768, 69, "hidden, or\nthe next layer", "data", 104)
    for view, member, mapped in zip(views, members, maps, strict=True):
        d.chain(raw, view, member, mapped, joined)
    d.chain(joined, plus, norm, hidden)
    short = d.box(392, 182, "shortcut\nW x", width=84)
    d.arrow((236, 56), (236, 204), short.left)
    d.arrow((236, 126), (236, 204), short.left)
    d.arrow(short.right, (646, 204), plus.bottom)
    d.frame(224, 16, 504, 220, "× layers")
    return d


def dagfm() -> Drawing:
    """The graph of the tokens, as one step of it, and the readout."""
    d = Drawing(900, 250)
    first = d.box(10, 98, "ReLU projection\nT d numbers", width=112)
    layers, tokens = d.box(144, 98, "token\nlayer", width=62), d.box(228, 98, "T tokens e\nof width d", "data", 72)
    start = d.box(322, 98, "h⁰ = C e\nT × d", width=70)
    nodes = [d.box(x, y, str(number + 1), "data", 34, 34) for number, (x, y) in enumerate(((454, 63), (454, 143), (540, 103)))]
    times, state = d.sign(640, 120, "×"), d.box(678, 98, "hᵗ⁺¹\nT × d", "data", 62)
    readout = d.box(790, 90, "sums over d\nof h⁰ .. hᴸ,\nnormed", "fixed", 100, 60)
    d.chain(first, layers, tokens, start)
    d.arrow(start.right, (436, 120))
    d.arrow(nodes[0].bottom, nodes[1].top)
    d.arrow(nodes[0].right, (557, 80), nodes[2].top)
    d.arrow(nodes[1].right, (557, 160), nodes[2].bottom)
    d.chain(nodes[2], times, state, readout)
    d.arrow((408, 120), (408, 22), (640, 22), times.top)
    d.text(560, 206, "a node reads itself and those before it", colour="#475569")
    d.frame(422, 36, 336, 196, "× depth L")
    return d


def hhsft() -> Drawing:
    """Layers over tokens in the upper row, the experts of domains in the lower ones."""
    d = Drawing(900, 390)
    first = d.box(10, 58, "ReLU projection\nT d numbers", width=112)
    layers, tokens = d.box(144, 58, "token\nlayers", width=62), d.box(226, 58, "T tokens\nof width d", "data", 76)
    norm, attention = d.box(346, 58, "LN", "norm", 36), d.box(402, 58, "attention, Q K V\nof each token", width=112)
    plus, second, ffn = d.sign(544, 80, "+"), d.box(578, 58, "LN", "norm", 36), d.box(634, 58, "feed-forward\nper token", width=92)
    again, joint = d.sign(754, 80, "+"), d.box(792, 52, "the same with\nQ K V of all\ntokens (GFA)", width=98, height=56)
    d.chain(first, layers, tokens, norm, attention, plus, second, ffn, again, joint)
    d.arrow((330, 80), (330, 32), (544, 32), plus.top)
    d.arrow((567, 80), (567, 32), (754, 32), again.top)
    d.frame(318, 18, 456, 132, "× layers (HFA)")
    z = d.box(10, 230, "LN, flatten\nz", "norm", 86)
    d.arrow(joint.bottom, (841, 170), (53, 170), z.top)
    shared = d.box(150, 194, "shared expert\nf_s(z)", width=130)
    experts = d.box(150, 266, "experts of domains\nf_1(z) .. f_D(z)", width=130)
    d.chain(z, shared)
    d.chain(z, experts)
    routed = d.box(350, 194, "a_s f_s + a_d f_d\nd: own domain (DREF)", width=160)
    read = d.box(350, 266, "attention, query d,\nkeys, values of all", width=160)
    gate = d.box(350, 336, "sigmoid gate\nprojection, domain", width=160)
    d.chain(shared, routed)
    d.arrow(experts.right, (315, 288), (315, 228), (350, 228))
    d.chain(experts, read)
    times, total = d.sign(556, 288, "×"), d.sign(620, 216, "+")
    d.chain(read, times)
    d.arrow(gate.right, (556, 358), times.bottom)
    d.chain(routed, total)
    d.arrow(times.right, (620, 288), total.bottom)
    hidden = d.box(680, 194, "hidden\nE numbers", "data", 86)
    d.chain(total, hidden)
    d.text(640, 282, "DAPGA: no gradient through keys", anchor="start", colour="#475569")
    d.text(640, 298, "and values of other domains", anchor="start", colour="#475569")
    return d


FIGURES = {draw.__name__: draw for draw in (dcnv2, masknet, transformer, rankmixer, wukong, dhen, dagfm, hhsft)}
"""By the backbone's name."""
