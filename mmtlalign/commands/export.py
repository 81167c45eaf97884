"""Export a classifier, a segmenter or a backbone, to run without this code.

    mmtlalign export CONFIG CHECKPOINT --shape 224 224 --out a.onnx
    mmtlalign export CONFIG CHECKPOINT --dynamic --out a.pt2

The suffix chooses between ONNX and torch.export. The file takes images,
float32 (N, 3, H, W), RGB, 0 to 255: it normalizes them itself. It is loaded
again and kept only if it computes what the model computes. docs/export.md
says more.
"""

import argparse
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmpretrain.models import BaseClassifier, VisionTransformer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import mmtlalign
from mmtlalign.apis import get_model
from mmtlalign.apis.channel_order import trained_order
from mmtlalign.commands.command_line import add_trust_argument, make_folder_of, new_parser
from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole

# Largest difference of an output from the model's, as a part of the largest
# value in it. Another order of summation in float32 moves the outputs of a
# deep network by 1e-6 to 1e-5 of it; a wrong weight, mean or position
# embedding, by 1e-2 and more.
TOLERANCE = 1e-4

ONNX_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')

# Fewest patches in a row or column, where position embeddings are resized:
# ONNX resizes them to a single row by another rule than torch.
MIN_PATCHES = 2


def make_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='path of a config, or name of one that comes along')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        default=True,
        help="path or URL (default: what is published for the name, or the config's load_from)",
    )
    parser.add_argument(
        '--out', required=True, type=Path, metavar='FILE.{onnx,pt2}', help='file to write'
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument(
        '--shape', nargs=2, type=int, metavar=('H', 'W'), help='size of the images in pixels'
    )
    size.add_argument(
        '--dynamic', action='store_true', help='any number and size of images (plain ViTs)'
    )
    parser.add_argument(
        '--batch',
        type=int,
        default=1,
        metavar='N',
        help='number of images, with --shape (default: 1)',
    )
    parser.add_argument(
        '--backbone-only', action='store_true', help='export what the backbone puts out'
    )
    add_trust_argument(parser)
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What is given, if it fits together."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.out.suffix not in ('.onnx', '.pt2'):
        parser.error(f"--out '{args.out}' must end in .onnx or .pt2")
    if args.dynamic and args.batch != 1:
        parser.error('--batch goes with --shape; --dynamic takes any number')
    if min(args.batch, *(args.shape or [1])) < 1:
        parser.error('--shape and --batch must be positive')
    return args


class Network(nn.Module):
    """From images to tensors, without samples, losses or label traces.

    Args:
        model (BaseModel): In evaluation mode; modified.
        backbone_only (bool): Put out the features of the backbone instead of
            the logits.

    Raises:
        UserError: If the model is neither a classifier nor a segmenter, and
            more than its backbone is asked for.
    """

    def __init__(self, model: BaseModel, backbone_only: bool) -> None:
        super().__init__()
        # Not a submodule: weights that compute nothing stay out of the file.
        object.__setattr__(self, 'model', model.requires_grad_(False))
        self.part = model.backbone if backbone_only else model
        if backbone_only:
            self.task = 'backbone'
        elif isinstance(model, BaseClassifier):
            self.task = 'classification'
        elif hasattr(model, 'encode_decode'):
            self.task = 'segmentation'
            if model.with_auxiliary_head:  # of training only
                del model.auxiliary_head
        else:
            raise UserError(
                f'{type(model).__name__} is neither a classifier nor a '
                'segmenter, and its predictions cannot be exported; its '
                'backbone can: add --backbone-only'
            )
        self.register_buffer('mean', torch.zeros(3, 1, 1))
        self.register_buffer('std', torch.ones(3, 1, 1))
        preprocess = model.data_preprocessor
        if getattr(preprocess, '_enable_normalize', False):
            self.mean.copy_(preprocess.mean)
            self.std.copy_(preprocess.std)

    @property
    def patch(self) -> int:
        """Edge of a ViT's patches in pixels, the host's default included."""
        return self.model.cfg.model.backbone.get('patch_size', 16)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs of images (N, 3, H, W), 0 to 255."""
        return self.compute((images - self.mean) / self.std)

    def compute(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of normalized images (N, 3, H, W)."""
        if self.task == 'segmentation':
            meta = dict(img_shape=inputs.shape[2:])
            return flatten(self.part.encode_decode(inputs, [meta]))
        return flatten(self.part(inputs))

    def reference(self, images: Tensor) -> tuple[Tensor, ...]:
        """The same outputs, of images that the host has normalized."""
        preprocess = self.model.data_preprocessor
        if converts_channels(preprocess):
            images = images.flip(1)
        inputs = preprocess(
            dict(inputs=list(images), data_samples=[BaseDataElement() for _ in images])
        )['inputs']
        # without what the host pads at the lower and right edges
        return self.compute(inputs[..., : images.size(2), : images.size(3)])


def flatten(outputs) -> tuple[Tensor, ...]:
    """A tuple of tensors from tensors in tuples and lists."""
    if isinstance(outputs, Tensor):
        return (outputs,)
    return sum(map(flatten, outputs), ())


def converts_channels(preprocess: nn.Module) -> bool:
    """Whether the host's preprocessor reverses the channels it is given."""
    return getattr(preprocess, 'to_rgb', getattr(preprocess, '_channel_conversion', False))


def patch_size(network: Network) -> int:
    """Edge in pixels of what must divide the sizes of images.

    Raises:
        UserError: If sizes cannot be left open.
    """
    backbone = network.model.backbone
    instead = 'give the size of the images with --shape H W and --batch N'
    if not isinstance(backbone, VisionTransformer):
        raise UserError(
            f'--dynamic is for plain ViTs: {type(backbone).__name__} lays out '
            'its windows or maps for one size of images when it is exported; ' + instead
        )
    if network.task == 'segmentation':
        raise UserError(
            '--dynamic is for classifiers and backbones: a segmenter pools '
            'and resizes its maps by factors that are fixed when it is '
            f'exported; {instead}'
        )
    return network.patch


def check_patches(network: Network, height: int, width: int) -> None:
    """Raise a UserError for a ViT's images that ONNX would get wrong."""
    backbone = network.model.backbone
    if not isinstance(backbone, VisionTransformer):
        return
    patch = network.patch
    patches = -(-height // patch), -(-width // patch)
    if min(patches) < MIN_PATCHES and patches != backbone.patch_resolution:
        raise UserError(
            f'--shape {height} {width} is {patches[0]}x{patches[1]} patches '
            f'of {patch} px, and ONNX needs {MIN_PATCHES} in a row and in a '
            'column to resize position embeddings as torch does; give sides '
            f'of {MIN_PATCHES * patch} px or more, or write a .pt2'
        )


class Unlike(int):
    """A number that is equal to none."""

    def __eq__(self, other) -> bool:
        return False

    __hash__ = int.__hash__


@contextmanager
def always_resized(backbone: nn.Module):
    """Let a ViT resize its position embeddings even to the size they have.

    It would compare the sizes, and a traced program has one branch only: it
    would then refuse images of the size of the pretraining.
    """
    resolution = backbone.patch_resolution
    backbone.patch_resolution = tuple(map(Unlike, resolution))
    try:
        yield
    finally:
        backbone.patch_resolution = resolution


def trace(
    network: Network, size: tuple[int, ...], dynamic_shapes: tuple | None = None
) -> ExportedProgram:
    """The network as a graph, traced on images of a size (N, 3, H, W).

    Raises:
        UserError: If torch cannot trace it.
    """
    try:
        program = torch.export.export(
            network, (torch.zeros(size),), dynamic_shapes=dynamic_shapes, strict=False
        )
    except Exception as error:  # a foreign model can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f'torch.export cannot trace {type(network.model).__name__} on '
            f'images of {size[2]}x{size[3]} px: {reason}'
        ) from error
    for node in program.graph.nodes:  # it names folders of this machine
        node.meta.pop('stack_trace', None)
    return program


def trace_any_size(network: Network) -> tuple[ExportedProgram, list[tuple[int, ...]]]:
    """The graph for any number and size of images, and sizes to check.

    It is traced on another size than those: at that of the pretraining, and
    at one that is no square.
    """
    patch = patch_size(network)
    rows, cols = (max(n, MIN_PATCHES) for n in network.model.backbone.patch_resolution)
    shapes = {
        0: Dim('batch'),
        2: patch * Dim('rows', min=MIN_PATCHES),
        3: patch * Dim('cols', min=MIN_PATCHES),
    }
    with always_resized(network.model.backbone):
        program = trace(network, (2, 3, patch * (rows + 1), patch * (cols + 2)), (shapes,))
    return program, [
        (1, 3, patch * rows, patch * cols),
        (3, 3, patch * (rows + 3), patch * (cols + 1)),
    ]


def describe(network: Network, names: list[str], args) -> dict[str, str]:
    """What somebody who has only the file must know, in plain strings."""
    model = network.model
    if args.dynamic:
        patch = patch_size(network)
        size = f'any N x 3 x H x W, H and W multiples of {patch} from {MIN_PATCHES * patch} on'
    else:
        size = ' x '.join(map(str, (args.batch, 3, *args.shape)))
    is_rgb = trained_order(model.cfg) == 'rgb'
    if converts_channels(model.data_preprocessor):
        is_rgb = not is_rgb
    classes = model.dataset_meta.get('classes')
    return dict(
        name=Path(args.config).stem,
        task=network.task,
        images=f'float32, {size}, 0 to 255, {"RGB" if is_rgb else "BGR"}; normalized inside',
        outputs=json.dumps(names),
        classes=json.dumps(classes and [str(name) for name in classes]),
        mean=json.dumps(network.mean.flatten().tolist()),
        std=json.dumps(network.std.flatten().tolist()),
        mmtlalign=mmtlalign.__version__,
        torch=str(torch.__version__),
    )


@contextmanager
def quiet():
    """Keep back what exporters say of themselves; the file is verified."""
    for name in ('torch.onnx', 'onnxscript', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere):
        warnings.simplefilter('ignore')
        yield


def write(program: ExportedProgram, info: dict[str, str], path: Path) -> None:
    """Write a file of the format its suffix names."""
    if path.suffix == '.pt2':
        file = io.BytesIO()  # to a full disk it would abort
        torch.export.save(program, file, extra_files={'metadata.json': json.dumps(info)})
        write_whole(path, file.getvalue())
        return
    converted = torch.onnx.export(
        program, input_names=['images'], output_names=json.loads(info['outputs']), verbose=False
    )
    assert converted is not None  # as it is for a program
    converted.model.metadata_props.update(info)
    converted.save(path)


def load(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """A function that runs a written file on images."""
    if path.suffix == '.pt2':
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda images: list(
        map(torch.from_numpy, session.run(None, dict(images=images.numpy())))
    )


@torch.no_grad()
def verify(path: Path, network: Network, sizes: list[tuple[int, ...]]) -> float:
    """Hold a written file against the model, on random images.

    Returns:
        float: Largest difference, as a part of the largest value.

    Raises:
        UserError: If it is more than TOLERANCE, or values are not finite.
    """
    run = load(path)
    random = torch.Generator().manual_seed(0)
    largest = 0.0
    for size in sizes:
        images = torch.randint(256, size, generator=random, dtype=torch.uint8)
        for expected, found in zip(network.reference(images), run(images.float()), strict=True):
            if not found.isfinite().all():
                raise UserError('what the exported file computes is not finite; it was deleted')
            scale = expected.abs().max().clamp(min=1e-12)
            difference = float((found - expected).abs().max() / scale)
            if not difference <= TOLERANCE:
                raise UserError(
                    'what the exported file computes differs from the model '
                    f'by {difference:.1e} of its largest value, more than '
                    f'{TOLERANCE}, on images of {size[2]}x{size[3]} px; it '
                    'was deleted'
                )
            largest = max(largest, difference)
    return largest


def check_packages() -> None:
    """Raise a UserError unless all that ONNX needs can be imported."""
    for name in ONNX_PACKAGES:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f'ONNX needs {", ".join(ONNX_PACKAGES)} ({error}); run `pip '
                'install -r requirements/export.txt`, or write a .pt2'
            ) from error


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.out.suffix == '.onnx':
        check_packages()
    make_folder_of(args.out)
    model = get_model(args.config, args.checkpoint, trust=args.trust)
    network = Network(model, args.backbone_only)
    with quiet():
        if args.dynamic:
            program, sizes = trace_any_size(network)
        else:
            sizes = [(args.batch, 3, *args.shape)]
            if args.out.suffix == '.onnx':
                check_patches(network, *args.shape)
            program = trace(network, *sizes)
    count = len(program.graph_signature.user_outputs)
    names = [f'feature_{i}' for i in range(count)] if args.backbone_only else ['logits']
    # Under another name until it is known to be right.
    with tempfile.TemporaryDirectory(dir=args.out.parent) as folder:
        path = Path(folder, args.out.name)
        with quiet():
            write(program, describe(network, names, args), path)
            difference = verify(path, network, sizes)
        path.rename(args.out)
    print(
        f'{args.out}  {args.out.stat().st_size / 2**20:.1f} MiB, puts out '
        f'{", ".join(names)}; differs from the model by {difference:.1e} of '
        'the largest value'
    )
