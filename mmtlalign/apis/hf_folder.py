"""A folder that timm, and so the Hugging Face hub, takes as a model."""

import json
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config
from safetensors.torch import save
from torch import Tensor, nn

from mmtlalign.apis.channel_order import trained_order
from mmtlalign.apis.model_card import write_card
from mmtlalign.checkpoint.conversion import recognise
from mmtlalign.errors import UserError
from mmtlalign.output_files import write_whole

FIRST_LAYER = 'patch_embed.proj.weight'


def write_folder(
    folder: Path,
    state: dict[str, Tensor],
    model: nn.Module,
    cfg: Config,
    info: dict,
    license: str,
    source: str,
    interval: dict | None,
) -> float:
    """Write weights, config and card, if timm computes the same with them.

    Args:
        folder (Path): Made here; files of these names in it are replaced.
        state (dict[str, Tensor]): In mmpretrain's layout.
        model (nn.Module): mmpretrain's classifier, with these weights.
        cfg, info, license, source, interval: Of :func:`write_card`.

    Returns:
        float: The largest difference of logits on random images.

    Raises:
        UserError: If timm has no such model, or another result.
    """
    path = info['name']
    family, layout = recognise(state, path)
    state = family.from_mmpretrain(family.to_mmpretrain(state, layout, path), 'timm', path)
    architecture, model_args = family.timm_model(model.backbone, state)
    mean, std, reverse = read_normalization(cfg)
    if reverse:  # timm's images are RGB
        state[FIRST_LAYER] = state[FIRST_LAYER].flip(1).contiguous()
    model_args['num_classes'] = model.head.num_classes
    config = dict(
        architecture=architecture,
        num_classes=model.head.num_classes,
        num_features=model.backbone.embed_dims,
        model_args=model_args,
        pretrained_cfg=dict(
            input_size=[3, *model_args['img_size']],
            fixed_input_size=True,
            mean=mean,
            std=std,
            first_conv='patch_embed.proj',
            classifier='head.fc' if 'head.fc.weight' in state else 'head',
            **read_resizing(cfg),
        ),
        mmtlalign=dict(info, channels_reversed=reverse),
    )
    if classes := info.get('dataset_meta', {}).get('classes'):
        config['label_names'] = classes
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        write_whole(Path(made, 'model.safetensors'), save(state, dict(format='pt')))
        write_whole(Path(made, 'config.json'), json.dumps(config, indent=1) + '\n')
        card = write_card(info, cfg, model_args, source, license, interval)
        write_whole(Path(made, 'README.md'), card)
        difference = compare(Path(made), model, mean, std, reverse)
        folder.mkdir(exist_ok=True)
        for file in Path(made).iterdir():
            file.replace(folder / file.name)
    return difference


def read_normalization(cfg: Config) -> tuple[list[float], list[float], bool]:
    """Mean and standard deviation of RGB in [0, 1], and whether the model itself takes BGR."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    mean, std = (list(preprocessor.get(key) or []) for key in ('mean', 'std'))
    if len(mean) != 3 or len(std) != 3:
        raise UserError(
            f"the config's data_preprocessor has the mean {mean} and the std {std}, and timm's "
            'models take three of each; publish it without --format hf'
        )
    reverse = (trained_order(cfg) == 'rgb') == bool(preprocessor.get('to_rgb'))
    step = -1 if reverse else 1
    return [v / 255 for v in mean[::step]], [v / 255 for v in std[::step]], reverse


def read_resizing(cfg: Config) -> dict:
    """How the test pipeline makes images as large as the model takes them."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    steps = {step['type']: step for step in dataset.get('pipeline') or []}
    resize, crop = steps.get('ResizeEdge', {}), steps.get('CenterCrop', {})
    return dict(
        interpolation=resize.get('interpolation', 'bilinear'),
        crop_pct=crop['crop_size'] / resize['scale'] if resize and crop else 1.0,
        crop_mode='center',
    )


@torch.no_grad()
def compare(folder: Path, model: nn.Module, mean: list, std: list, reverse: bool) -> float:
    """The largest difference of logits, of the folder loaded as anyone would and the model.

    Raises:
        UserError: If timm cannot, or they differ by more than 1e-5.
    """
    timm = import_timm()
    try:
        theirs = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'timm has no model for these weights ({reason})') from None
    size = theirs.pretrained_cfg['input_size']
    images = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    images = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    ours = model.head(model.extract_feat(images.flip(1) if reverse else images))
    found = theirs(images)
    difference = (ours - found).abs().max().item()
    if not torch.allclose(ours, found, rtol=1e-5, atol=1e-5):
        raise UserError(
            f"timm's {type(theirs).__name__} gives other logits with these weights (by "
            f'{difference:.1e}, more than 1e-5): something of this model is not in timm'
        )
    return difference


def import_timm():
    """timm, or a UserError that names the extra."""
    try:
        import timm
    except ImportError:
        raise UserError("--format hf needs timm: pip install 'mmtlalign[timm]'") from None
    return timm


def check_upload(repo: str) -> None:
    """Raise a UserError for what would stop an upload at its end."""
    try:
        from huggingface_hub import get_token
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError:
        raise UserError('--upload needs huggingface_hub: pip install huggingface_hub') from None
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--upload '{repo}' is no name of a repository: {error}") from None
    if not get_token():
        raise UserError(
            '--upload needs a token of huggingface.co: `hf auth login`, or set HF_TOKEN'
        )


def upload(folder: Path, repo: str) -> str:
    """Send a folder to a hub's repository, made private if it is not there; give its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    address = api.create_repo(repo, private=True, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=folder, commit_message='Add the model')
    return str(address)
