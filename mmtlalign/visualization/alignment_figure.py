"""One picture of what label alignment does to one mixed image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

# Own image and partner, wherever they are told apart.
OWN, PARTNER = '#2166ac', '#b2182b'
MAPS_PER_ROW = 7


def draw_alignment(
    images: Sequence[np.ndarray],
    mixed: np.ndarray,
    share_maps: list[np.ndarray],
    output_shares: list[float],
    title: str,
) -> Figure:
    """Draw two images, their mix, where their labels go, and what results.

    Args:
        images (Sequence[np.ndarray]): The image and its partner, (H, W, 3), in [0, 1].
        mixed (np.ndarray): The mixed image, likewise.
        share_maps (list[np.ndarray]): Share of each patch, (rows, cols), before the first block and
            after every block.
        output_shares (list[float]): Share of what the head would read, at the same points; its
            first value is the area share ``lam``.
        title (str): What was traced.

    Returns:
        Figure: To be saved by the caller.
    """
    rows = -(-len(share_maps) // MAPS_PER_ROW)
    figure = Figure(figsize=(12, 5.2 + 1.8 * rows), layout='constrained')
    figure.suptitle(title, fontsize=13)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[2.3, 1.8 * rows, 2.4])
    _draw_images(top, images, mixed)
    _draw_maps(middle, share_maps, rows)
    _draw_shares(bottom, output_shares)
    return figure


def draw_share_maps(share_maps: dict[str, list[np.ndarray]]) -> Figure:
    """Draw share maps block by block, one way to move labels below another.

    Args:
        share_maps (dict[str, list[np.ndarray]]): Of each propagation, as of :func:`draw_alignment`.
    """
    rows = -(-max(map(len, share_maps.values())) // MAPS_PER_ROW)
    figure = Figure(figsize=(12, (0.5 + 1.8 * rows) * len(share_maps)), layout='constrained')
    parts = figure.subfigures(len(share_maps), 1, squeeze=False)[:, 0]
    for part, (name, maps) in zip(parts, share_maps.items()):
        _draw_maps(part, maps, rows)
        part.suptitle(f"{name}: each token's share of A's label", fontsize=11)
    return figure


def _draw_images(figure, images, mixed) -> None:
    names = ('image A: own', 'image B: partner', 'what the network sees')
    colours = (OWN, PARTNER, 'black')
    for axis, image, name, colour in zip(figure.subplots(1, 3), (*images, mixed), names, colours):
        axis.imshow(image)
        axis.set_title(name, color=colour, fontsize=11)
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(color=colour, linewidth=2)


def _draw_maps(figure, share_maps, rows) -> None:
    figure.suptitle("Each token's share of A's label, as attention mixes the tokens", fontsize=11)
    axes = figure.subplots(rows, MAPS_PER_ROW, squeeze=False).ravel()
    for axis in axes:
        axis.axis('off')
    for i, (axis, share) in enumerate(zip(axes, share_maps)):
        drawn = axis.imshow(share, cmap='RdBu', vmin=0, vmax=1)
        axis.set_title('input' if i == 0 else f'block {i}', fontsize=10)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.02, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(['B', 'half', 'A'])


def _draw_shares(figure, output_shares) -> None:
    lam, share = output_shares[0], output_shares[-1]
    curve, bars = figure.subplots(1, 2, width_ratios=[3, 2])
    curve.plot(output_shares, 'o-', color=OWN)
    curve.axhline(lam, color='grey', linestyle='--')
    curve.annotate('area label', (0, lam), (2, 3), textcoords='offset points', color='grey')
    curve.set_title('Share of A in what the head reads', fontsize=11)
    curve.set(xlabel='after block', ylabel='share of A')
    curve.set_xticks(range(len(output_shares)))
    # A fluctuation of a hundredth should not look like an earthquake.
    low, high = min(output_shares), max(output_shares)
    curve.set_ylim(min(low, lam - 0.02) - 0.005, max(high, lam + 0.02) + 0.005)

    for y, value in enumerate((lam, share)):
        bars.barh(y, value, color=OWN)
        bars.barh(y, 1 - value, left=value, color=PARTNER)
        for x, text in ((value / 2, f'A {value:.3f}'), ((1 + value) / 2, f'B {1 - value:.3f}')):
            bars.text(x, y, text, color='white', ha='center', va='center')
    bars.set_yticks([0, 1], ['area label\n(CutMix)', 'aligned label\n(TL-Align)'])
    bars.invert_yaxis()
    bars.set(xlim=(0, 1), xticks=[0, 0.5, 1])
    bars.set_title('The training target', fontsize=11)
