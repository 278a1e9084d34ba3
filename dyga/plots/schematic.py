"""A schematic of the method: the content of the paper's Figure 2 in a different layout."""

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from dyga.plots.style import GREY, INK, PALETTE, WIDTH, new_figure, styled

BLUE, ORANGE, GREEN, PINK, AMBER, SKY = PALETTE[:6]


class _Canvas:
    """Basic shapes on one axes, in its data coordinates (120 wide)."""

    def __init__(self, axes: Axes):
        self.axes = axes

    def arrow(self, start: tuple[float, float], end: tuple[float, float], **options) -> None:
        options = {"color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9} | options
        self.axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", **options))

    def text(self, x: float, y: float, text: str, size: float = 8, **options) -> None:
        self.axes.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": size} | options)

    def box(self, x, y, width, height, text="", edge=INK, face="white", size=8.0, rounding=0.8) -> None:
        shape = f"round,pad=0,rounding_size={rounding}"
        self.axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, edgecolor=edge, facecolor=face, linewidth=1))
        self.text(x + width / 2, y + height / 2, text, size)

    def panel(self, x, y, width, height, title: str, colour: str, indent=1.8) -> None:
        self.box(x, y, width, height, edge="none", face=to_rgba(colour, 0.10), rounding=1.6)
        self.text(x + indent, y + height - 2.6, title, 9, ha="left", fontweight="bold", color=colour)

    def room(self, x, y, side) -> None:
        """A room with an object, as an example image."""
        for low, high, colour in ((0, 0.42, AMBER), (0.42, 0.75, BLUE), (0.75, 1, "#BFE6FA")):
            self.axes.add_patch(Rectangle((x, y + low * side), side, (high - low) * side, color=colour, linewidth=0))
        self.axes.add_patch(Ellipse((x + 0.56 * side, y + 0.25 * side), 0.5 * side, 0.14 * side, color="#00000055"))
        self.axes.add_patch(Ellipse((x + 0.5 * side, y + 0.42 * side), 0.4 * side, 0.4 * side, color=ORANGE))

    def channels(self, x, y, dropped: int) -> None:
        """Five channels of a skip connection, one of them dropped."""
        self.axes.add_patch(Rectangle((x - 0.6, y - 1.9), 11.2, 3.8, color="white", linewidth=0, zorder=2))
        for channel in range(5):
            style = {"facecolor": SKY, "edgecolor": BLUE}
            if channel == dropped:
                style = {"facecolor": "white", "edgecolor": ORANGE, "linestyle": (0, (2, 1.4))}
            self.axes.add_patch(Rectangle((x + 2.1 * channel, y - 1.4), 1.6, 2.8, linewidth=1, zorder=3, **style))


@styled
def method() -> Figure:
    """The method: a feature extractor maps the image to latent units, these are aligned to their anchors, and the aligned units
    condition a U-Net with skip dropout, which predicts the noise of the noisy latent."""
    label = "The method: latent units, aligned to their anchors, condition a denoiser with skip dropout"
    figure = new_figure(WIDTH, WIDTH * 56 / 120, label)
    axes = figure.subplots()
    axes.set(xlim=(0, 120), ylim=(0, 56), aspect="equal")
    axes.set_axis_off()
    draw = _Canvas(axes)

    draw.panel(45, 29, 55, 26, "U-Net with Skip Dropout", BLUE)
    draw.panel(1, 1, 38, 24, "Feature extractor", GREEN, indent=9.5)
    draw.panel(45, 1, 74, 24, "Dynamic Gaussian Anchoring", ORANGE, indent=30)

    # Top: the image's latent, the added noise, and the denoiser.
    draw.room(2, 35, 12)
    draw.text(8, 49.2, "image")
    draw.arrow((14, 41), (18, 41))
    draw.box(18, 38, 10, 6, "encode")
    draw.arrow((28, 41), (32.4, 41))
    draw.box(32.4, 39.2, 3.6, 3.6, "+", rounding=1.8, size=10)
    draw.arrow((34.2, 48.5), (34.2, 42.8))
    draw.text(34.2, 50.2, "noise ε")
    draw.arrow((36, 41), (49, 41))
    draw.text(41.5, 42.6, "noisy latent")
    for x, height in ((49, 17), (56, 11), (63, 6), (70.5, 4), (78, 6), (85, 11), (92, 17)):
        draw.box(x, 33, 4, height, face=to_rgba(BLUE, 0.35), edge=BLUE, rounding=0.5)
    draw.arrow((53, 47.5), (92, 47.5), color=BLUE)
    draw.arrow((60, 41.5), (85, 41.5), color=BLUE)
    draw.channels(67.5, 47.5, dropped=3)
    draw.channels(67.5, 41.5, dropped=1)
    draw.arrow((96, 41), (104, 41))
    draw.box(104, 37.5, 14, 7, "predicted\nnoise")
    draw.arrow((111, 44.5), (111, 49))
    draw.text(111, 51, "loss against ε")

    # Bottom left: from the image to its latent units.
    draw.arrow((8, 35), (8, 17.8))
    axes.add_patch(Polygon([(4, 17.8), (12, 15.6), (12, 7.2), (4, 5)], facecolor="white", edgecolor=INK, linewidth=1))
    draw.text(8, 11.4, "CNN")
    colours = (PINK, AMBER, GREEN, BLUE)
    for i, colour in enumerate(colours):
        y = 16.2 - 4 * i
        draw.arrow((12, 11.4), (17, y + 1.4), linewidth=0.9)
        draw.box(17, y, 8, 2.9, "MLP", size=7, rounding=0.4)
        draw.arrow((25, y + 1.4), (29, y + 1.4), linewidth=0.9)
        draw.box(29, y + 0.2, 6.5, 2.4, face=to_rgba(colour, 0.6), edge=colour, rounding=1.0)
    draw.text(32.2, 2.6, "latent units c", 7.5)
    draw.arrow((36.4, 11.4), (49, 11.4))

    # Bottom right: alignment, and the selection of the anchors.
    draw.box(49, 3.5, 36, 17.2, rounding=0.6, edge="#BBBBBB")
    clusters = ((56.5, 10, 11, 6, 20, PINK), (67.5, 12.5, 8.5, 6, -25, GREEN), (78.5, 10, 10, 5.5, 30, AMBER))
    for x, y, width, height, angle, colour in clusters:
        face = to_rgba(colour, 0.35)
        axes.add_patch(Ellipse((x, y), width, height, angle=angle, facecolor=face, edgecolor=colour, linewidth=1))
        axes.plot(x, y, "D", markersize=6, markerfacecolor="white", markeredgecolor="black", markeredgewidth=1.2)
    axes.plot(57, 17.2, "o", color=INK, markersize=4)
    draw.arrow((57, 17.2), (56.6, 13.2), color=INK)
    draw.text(55.4, 17.6, "c", ha="right", style="italic")
    draw.text(58.2, 14.6, "shift", 7, ha="left", color=GREY)
    draw.text(66.5, 5.4, "c̃ = c + λ (μ − c)", 8, style="italic")
    draw.text(83.8, 18.6, "one space per unit", 7, ha="right", color=GREY)

    steps = ("initialise", "HDDC", "split", "filter")
    for i, step in enumerate(steps):
        y = 16.6 - 4.1 * i
        draw.box(98, y, 16, 2.9, step, size=7.5, rounding=0.5)
        if i:
            draw.arrow((106, y + 4.1), (106, y + 2.9), linewidth=1)
    draw.arrow((85, 15.4), (98, 15.4), linestyle="--", color=ORANGE)
    draw.arrow((98, 5.8), (85, 5.8), linestyle="--", color=ORANGE)
    draw.text(91.5, 17, "features", 7.5)
    draw.text(91.5, 7.4, "anchors μ", 7.5)
    draw.text(91.5, 10.6, "refitted during\ntraining", 6.8, color=GREY)

    # The aligned units are the context of the cross-attention at the U-Net's lower resolutions.
    context = {"color": ORANGE}
    axes.plot([58, 87], [30.8, 30.8], solid_capstyle="projecting", linewidth=1.2, **context)
    draw.arrow((72.5, 20.7), (72.5, 33), **context)
    for x in (58, 65, 80, 87):
        draw.arrow((x, 30.8), (x, 33), **context)
    draw.text(74, 27, "aligned units c̃, by cross-attention", 8, ha="left")
    return figure
