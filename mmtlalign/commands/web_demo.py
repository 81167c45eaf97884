"""Play with mixes, labels and models in a browser.

mmtlalign demo --web
mmtlalign demo --web CONFIG CHECKPOINT --port 7861
"""

import argparse
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import mmcv
from mmengine.model import BaseModel
from sklearn.datasets import load_sample_images

from mmtlalign.alignment import LabelTrace
from mmtlalign.apis import build_inference, get_model, list_models
from mmtlalign.apis.mixing import Box, MixTrace, load_images, trace_mix
from mmtlalign.apis.zoo import find_weights
from mmtlalign.commands.command_line import check_file, new_parser
from mmtlalign.datasets import Digits
from mmtlalign.errors import UserError
from mmtlalign.evaluation import predictions
from mmtlalign.resources import open_config
from mmtlalign.visualization import draw_share_maps
from mmtlalign.visualization.report import figures

try:
    import gradio as gr
except ImportError:
    gr = None  # type: ignore[assignment]

PROPAGATIONS = ('tlalign', 'contribution')
MAX_FILE_SIZE = '10mb'
MAX_PIXELS = 2**24  # of an image, before it is decoded

# Image A under the grid of patches, and the box to drag or, by its corner, to stretch.
PICKER = """
<svg viewBox="0 0 ${value.cols} ${value.rows}">
<image href="${value.picture}" width="${value.cols}" height="${value.rows}"
  preserveAspectRatio="none"/>
<rect class="box" x="${value.box[2]}" y="${value.box[0]}"
  width="${value.box[3] - value.box[2]}" height="${value.box[1] - value.box[0]}"/>
<circle class="corner" cx="${value.box[3]}" cy="${value.box[1]}" r="${value.cols / 24}"/>
</svg>
"""
PICKER_CSS = """
svg { width: 100%; touch-action: none; image-rendering: pixelated; }
.box { fill: #b2182b55; stroke: #b2182b; stroke-width: 2px; vector-effect: non-scaling-stroke;
  cursor: move; }
.corner { fill: #b2182b; cursor: nwse-resize; }
"""
PAGE_CSS = """
.photograph img { height: 12rem; width: 100%; object-fit: contain; }
#mixed img, .photograph img { image-rendering: pixelated; }
"""
PICKER_JS = """
let drag = null;
const at = event => {
  const area = element.querySelector('svg').getBoundingClientRect();
  return [(event.clientY - area.top) / area.height * props.value.rows,
          (event.clientX - area.left) / area.width * props.value.cols];
};
const moved = event => {
  const { rows, cols } = props.value, [y, x] = at(event);
  const dy = Math.round(y - drag.y), dx = Math.round(x - drag.x);
  const fit = (low, high, by, size) => {
    if (drag.corner) return [low, Math.min(size, Math.max(low + 1, high + by))];
    const start = Math.min(size - (high - low), Math.max(0, low + by));
    return [start, start + high - low];
  };
  const [yl, yu, xl, xu] = drag.box;
  return [...fit(yl, yu, dy, rows), ...fit(xl, xu, dx, cols)];
};
element.addEventListener('pointerdown', event => {
  if (!event.target.matches('.box, .corner')) return;
  event.preventDefault();
  const [y, x] = at(event);
  drag = { y, x, box: [...props.value.box], corner: event.target.matches('.corner') };
});
window.addEventListener('pointermove', event => {
  if (!drag) return;
  const [yl, yu, xl, xu] = moved(event), box = element.querySelector('.box');
  for (const [key, value] of [['x', xl], ['y', yl], ['width', xu - xl], ['height', yu - yl]])
    box.setAttribute(key, value);
});
window.addEventListener('pointerup', event => {
  if (!drag) return;
  props.value = { ...props.value, box: moved(event) };
  drag = null;
  trigger('release');
});
"""


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('--web', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('config', nargs='?', help='of a model of yours, beside those of the zoo')
    parser.add_argument('checkpoint', nargs='?', help='its weights')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen at; any but %(default)s lets others in (default: %(default)s)',
    )
    parser.add_argument('--port', type=int, default=7860, help='default: %(default)s')
    return parser


class Models:
    """Models of the page by name, each loaded when it is first asked for; one of the user's own
    before those of the zoo."""

    def __init__(self, config: str | None = None, checkpoint: str | None = None) -> None:
        self.checkpoints = {name: '' for name in list_models(pretrained=True)}
        if config:
            self.checkpoints = {config: checkpoint, **self.checkpoints}
        scopes = {name: open_config(name).get('default_scope') for name in self.checkpoints}
        self.classifiers = [name for name, scope in scopes.items() if scope == 'mmpretrain']
        self.others = [name for name in scopes if name not in self.classifiers]
        own = [config] if config in self.classifiers else []
        # the examples are digits
        self.start = [*own, *(n for n in self.classifiers if 'tlalign_deit-digits' in n)][0]

    def weights(self, name: str) -> str:
        """Path of a model's weights; a name that is not offered is refused."""
        if name not in self.checkpoints:
            raise UserError(f"'{name}' is none of the models of this page")
        return self.checkpoints[name] or find_weights(Path(name).stem)

    @lru_cache(maxsize=4)
    def classifier(self, name: str) -> BaseModel:
        """One to mix images for."""
        return get_model(name, self.weights(name))

    @lru_cache(maxsize=4)
    def detector(self, name: str) -> Callable:
        """One to predict with, or a segmenter."""
        return build_inference(open_config(name), self.weights(name), 'cpu')


def fit_box(box: list[int], grid: tuple[int, int]) -> Box:
    """The box of another grid of patches, or of a browser, on this one."""
    (rows, cols), (yl, yu, xl, xu) = grid, map(int, box)
    yl, xl = min(max(yl, 0), rows - 1), min(max(xl, 0), cols - 1)
    return yl, min(max(yu, yl + 1), rows), xl, min(max(xu, xl + 1), cols)


def mix(model: BaseModel, paths: list[str], box: list[int] | None) -> tuple[MixTrace, Box]:
    """Mix two images for a model, labels moved in each way that it has; what came of it, and the
    box that was pasted."""
    batch = load_images(model.cfg, paths, model.cfg.model.backbone.get('img_size'))
    image = model.data_preprocessor(batch)['inputs'][:1]
    rows, cols = LabelTrace(model.backbone).grid_of(image)
    box = box or [rows // 4, rows - rows // 4, cols // 4, cols - cols // 4]
    fitted = fit_box(box, (rows, cols))
    return trace_mix(model, batch, fitted, [p for p in PROPAGATIONS if offers(model, p)]), fitted


def offers(model: BaseModel, propagation: str) -> bool:
    """Whether a backbone's sites have what a way to move labels needs."""
    try:
        LabelTrace(model.backbone, propagation=propagation)
    except ValueError:
        return False
    return True


def tell_labels(found: MixTrace) -> str:
    """The training target of the mix, as a table in Markdown."""
    shares = {'area (CutMix)': next(iter(found.output_shares.values()))[0]}
    shares |= {f'aligned ({name})': values[-1] for name, values in found.output_shares.items()}
    rows = [f'| {name} | {share:.4f} | {1 - share:.4f} |' for name, share in shares.items()]
    return '\n'.join(['| label | A | B |', '|---|---|---|', *rows])


def told_in_the_page(function: Callable) -> Callable:
    """A user's mistake as a message in the page."""

    @wraps(function)
    def wrapped(*arguments):
        try:
            return function(*arguments)
        except (UserError, TypeError, ValueError, OSError, cv2.error) as error:
            raise gr.Error(' '.join(str(error).split())) from error

    return wrapped


def write_examples(folder: str) -> tuple[list[str], list[str]]:
    """Paths of two held-out digits, and of the two photographs that come with scikit-learn."""
    digits = Digits('val', pipeline=[])
    shown = [
        next(d['img'] for d in map(digits.get_data_info, range(360)) if d['gt_label'] == label)
        for label in (3, 8)
    ]
    photographs = [image[..., ::-1] for image in load_sample_images().images]
    paths = [str(Path(folder, f'{name}.png')) for name in ('three', 'eight', 'temple', 'flower')]
    for image, path in zip([*shown, *photographs], paths):
        mmcv.imwrite(image, path)
    return paths[:2], paths[2:]


def build_page(models: Models, folder: str):
    """The page, to be launched; its examples are in a folder as long as it is there."""
    digits, photographs = write_examples(folder)

    @told_in_the_page
    def show_mix(name, a, b, picked):
        if not (a and b):
            return [gr.skip()] * len(outputs)
        box = picked['box'] if any(picked['box']) else None  # not shown yet
        found, box = mix(models.classifier(name), [a, b], box)
        rows, cols = next(iter(found.share_maps.values()))[0].shape
        classes = models.classifier(name).dataset_meta.get('classes') or range(len(found.scores))
        own, mixed = (
            predictions.to_uri(image[..., ::-1] * 255) for image in (found.images[0], found.mixed)
        )
        return (
            dict(picture=own, rows=rows, cols=cols, box=list(box)),
            img(mixed, 'mix'),
            img(figures.to_uri(draw_share_maps(found.share_maps)), 'share maps'),
            tell_labels(found),
            {str(label): float(score) for label, score in zip(classes, found.scores)},
        )

    @told_in_the_page
    def show_prediction(name, path):
        if not path:
            raise UserError('choose an image')
        return models.detector(name)(path)

    with gr.Blocks(title='mmtlalign', analytics_enabled=False) as page:
        gr.Markdown('# mmtlalign: where the labels of a mix go')
        with gr.Tab('Mix two images'):
            name = gr.Dropdown(
                models.classifiers, value=models.start, label='model', elem_id='model'
            )
            with gr.Row():
                a, b = (image_input(f'image {x}', path) for x, path in zip('AB', digits))
            gr.Examples([digits, photographs], [a, b])
            with gr.Row():
                with gr.Column():
                    gr.Markdown('Drag the box, or its corner: it is pasted from B into A.')
                    picker = gr.HTML(
                        dict(picture='', rows=1, cols=1, box=[0] * 4),
                        html_template=PICKER,
                        css_template=PICKER_CSS,
                        js_on_load=PICKER_JS,
                        elem_id='picker',
                    )
                with gr.Column():
                    gr.Markdown('What the model sees:')
                    mixed = gr.HTML(elem_id='mixed')
                with gr.Column():
                    labels = gr.Markdown(elem_id='labels')
                    answer = gr.Label(num_top_classes=3, label='what the model says')
            maps = gr.HTML(elem_id='maps')
            outputs = [picker, mixed, maps, labels, answer]
            for event in (page.load, name.input, a.change, b.change, picker.release):
                event(show_mix, [name, a, b, picker], outputs, api_visibility='private')
        if models.others:
            with gr.Tab('Detect and segment'):
                other = gr.Dropdown(models.others, label='model', elem_id='detector')
                path = image_input('image', photographs[0])
                button = gr.Button('Look', elem_id='look')
                seen = gr.Image(
                    label='what it sees', interactive=False, format='png', buttons=['download']
                )
                words = gr.Textbox(label='in words', elem_id='words')
                button.click(
                    show_prediction, [other, path], [seen, words], api_visibility='private'
                )
    return page


def img(uri: str, alt: str) -> str:
    """A picture as wide as there is room for."""
    return f'<img src="{uri}" alt="{alt}" width="100%">'


def image_input(label: str, path: str):
    """A place for an image of a user, or an example."""
    return gr.Image(
        path,
        label=label,
        type='filepath',
        sources=['upload'],
        image_mode='RGB',
        format='png',
        elem_classes='photograph',
    )


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.config and not args.checkpoint:
        parser.error('CONFIG needs its CHECKPOINT')
    if gr is None:
        raise UserError(
            'the page needs gradio: pip install "mmtlalign[web]", or pip install gradio'
        )
    if args.checkpoint:
        check_file(args.checkpoint, 'checkpoint')
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # which refuses twice as many
    models = Models(args.config, args.checkpoint)
    with TemporaryDirectory() as folder:
        page = build_page(models, folder)
        page.launch(
            server_name=args.host,
            server_port=args.port,
            share=False,
            max_file_size=MAX_FILE_SIZE,
            ssr_mode=False,
            footer_links=[],
            css=PAGE_CSS,
            theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
        )
