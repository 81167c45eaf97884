"""A model as a file that runs without this code, held against the model."""

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
from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole

from .channel_order import trained_order

# Largest difference of an output from the model's, as a part of the largest value in it. Another
# order of summation in float32 moves the outputs of a deep network by 1e-6 to 1e-5 of it; a wrong
# weight, mean or position embedding, by 1e-2 and more.
TOLERANCE = 1e-4

ONNX_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')

# Fewest patches in a row or column, where position embeddings are resized:
# ONNX resizes them to a single row by another rule than torch.
MIN_PATCHES = 2


class Network(nn.Module):
    """From images to tensors, without samples, losses or label traces; modifies the model.

    Raises:
        UserError: If it is neither a classifier nor a segmenter, and not its backbone alone is
            asked for.
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
                f'{type(model).__name__} is neither a classifier nor a segmenter, and its '
                'predictions cannot be exported; its backbone can: add --backbone-only'
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
    return (outputs,) if isinstance(outputs, Tensor) else sum(map(flatten, outputs), ())


def converts_channels(preprocess: nn.Module) -> bool:
    """Whether the host's preprocessor reverses the channels it is given."""
    return getattr(preprocess, 'to_rgb', getattr(preprocess, '_channel_conversion', False))


def check_open(network: Network) -> None:
    """Raise a UserError for a model that takes one size of images."""
    backbone = network.model.backbone
    instead = 'give the size of the images with --shape H W and --batch N'
    if not isinstance(backbone, VisionTransformer):
        raise UserError(
            f'--dynamic is for plain ViTs: {type(backbone).__name__} lays out '
            'its windows or maps for one size of images when it is exported; ' + instead
        )
    if network.task == 'segmentation':
        raise UserError(
            '--dynamic is for classifiers and backbones: a segmenter pools and resizes its maps '
            f'by factors that are fixed when it is exported; {instead}'
        )


def check_patches(network: Network, height: int, width: int) -> None:
    """Raise a UserError for a ViT's images that ONNX would get wrong."""
    backbone = network.model.backbone
    if not isinstance(backbone, VisionTransformer):
        return
    patch = network.patch
    patches = -(-height // patch), -(-width // patch)
    if min(patches) < MIN_PATCHES and patches != backbone.patch_resolution:
        raise UserError(
            f'--shape {height} {width} is {patches[0]}x{patches[1]} patches of {patch} px, and '
            f'ONNX needs {MIN_PATCHES} in a row and in a column to resize position embeddings as '
            f'torch does; give sides of {MIN_PATCHES * patch} px or more, or write a .pt2'
        )


class Unlike(int):
    """A number that is equal to none."""

    def __eq__(self, other) -> bool:
        return False

    __hash__ = int.__hash__


def trace(
    network: Network, size: tuple[int, ...], dynamic_shapes: tuple | None = None
) -> ExportedProgram:
    """The network as a graph, traced on images of a size (N, 3, H, W), or a UserError."""
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
    check_open(network)
    patch, backbone = network.patch, network.model.backbone
    resolution = backbone.patch_resolution
    rows, cols = (max(n, MIN_PATCHES) for n in resolution)
    shapes = {
        0: Dim('batch'),
        2: patch * Dim('rows', min=MIN_PATCHES),
        3: patch * Dim('cols', min=MIN_PATCHES),
    }
    # Embeddings are resized even to the size that they have: else the program
    # would have the other branch, and refuse images of the pretraining's size.
    backbone.patch_resolution = tuple(map(Unlike, resolution))
    program = trace(network, (2, 3, patch * (rows + 1), patch * (cols + 2)), (shapes,))
    backbone.patch_resolution = resolution
    sizes = [(1, rows, cols), (3, rows + 3, cols + 1)]
    return program, [(n, 3, patch * height, patch * width) for n, height, width in sizes]


def describe(
    network: Network, name: str, names: list[str], size: tuple[int, ...] | None
) -> dict[str, str]:
    """What somebody who has only the file must know, in plain strings."""
    model = network.model
    sizes = ' x '.join(map(str, size or 'N3HW'))
    if size is None:
        patch = network.patch
        sizes = f'any {sizes}, H and W multiples of {patch} from {MIN_PATCHES * patch} on'
    is_rgb = (trained_order(model.cfg) == 'rgb') != bool(converts_channels(model.data_preprocessor))
    classes = model.dataset_meta.get('classes')
    return dict(
        name=name,
        task=network.task,
        images=f'float32, {sizes}, 0 to 255, {"RGB" if is_rgb else "BGR"}; normalized inside',
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
    """Hold a written file against the model, on random images; the largest difference, as a part
    of the largest value, or a UserError if that is more than TOLERANCE or not finite."""
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
                    f'what the exported file computes differs from the model by {difference:.1e} '
                    f'of its largest value, more than {TOLERANCE}, on images of '
                    f'{size[2]}x{size[3]} px; it was deleted'
                )
            largest = max(largest, difference)
    return largest


def check_packages() -> None:
    """Raise a UserError unless all that ONNX needs can be imported."""
    try:
        for name in ONNX_PACKAGES:
            import_module(name)
    except ImportError as error:
        raise UserError(
            f'ONNX needs {", ".join(ONNX_PACKAGES)} ({error}); run `pip '
            'install -r requirements/export.txt`, or write a .pt2'
        ) from error


@quiet()
def export(
    model: BaseModel,
    path: Path,
    size: tuple[int, ...] | None = None,
    *,
    name: str = '',
    backbone_only: bool = False,
) -> tuple[list[str], float]:
    """Write a file that computes what a model computes, or none.

    Args:
        model (BaseModel): From :func:`mmtlalign.apis.get_model`; modified.
        path (Path): Ends in ``.onnx`` or ``.pt2``, for ``torch.export``.
        size (tuple[int], optional): Of the images, (N, 3, H, W). Defaults to
            None: any, for plain ViTs.
        name (str): Of the model, for whoever has the file. Defaults to ''.
        backbone_only (bool): Put out features instead of predictions. Defaults to False.

    Returns:
        tuple[list[str], float]: Names of what the file puts out, and the
        largest difference from the model, as a part of the largest value.

    Raises:
        UserError: If the model cannot be exported so, or the file computes
            something else; what was at the path is then still there.
    """
    network = Network(model, backbone_only)
    if size is None:
        program, sizes = trace_any_size(network)
    else:
        if path.suffix == '.onnx':
            check_patches(network, *size[2:])
        program, sizes = trace(network, size), [size]
    count = len(program.graph_signature.user_outputs)
    names = [f'feature_{i}' for i in range(count)] if backbone_only else ['logits']
    # Under another name until it is known to be right.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder, path.name)
        write(program, describe(network, name, names, size), written)
        difference = verify(written, network, sizes)
        written.rename(path)
    return names, difference
