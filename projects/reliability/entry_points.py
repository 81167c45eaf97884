"""All that reads files of others, and how: held by a test against the code.

In an argument, ``{kind}`` stands for a file of that kind of the corpus; the
other names are sound files of the bench.
"""


def read_calls(table: str) -> dict[str, list[list[str]]]:
    """By the first word of its lines, all that follow it."""
    calls: dict[str, list[list[str]]] = {}
    for line in table.strip().splitlines():
        what, *arguments = line.split()
        calls.setdefault(what, []).append(arguments)
    return calls


# The calls of our commands that between them read all that these can be given.
COMMANDS = read_calls("""
train {config}
train tiny.py --extend 4 --resume {checkpoint}
train tiny.py --cfg-options load_from={checkpoint}
test {config} tiny.pth
test tiny.py {checkpoint}
check {config}
demo photo.png {config} tiny.pth --device cpu
demo photo.png tiny.py {checkpoint} --device cpu
demo {image} tiny.py tiny.pth --device cpu
publish {checkpoint} out --name a
publish {checkpoint} out --name a --format hf
publish trained.pth out --name a --metrics {json}
export {config} tiny.pth --out a.pt2 --shape 16 16
export tiny.py {checkpoint} --out a.pt2 --shape 16 16
convert {checkpoint} out.pth
convert hf:{hub} out.pth
robustness {config} tiny.pth
robustness tiny.py {checkpoint}
fidelity {config} tiny.pth --mixes 20
fidelity tiny.py {checkpoint} --mixes 20
visualize {config} tiny.pth --img photo.png photo.png
visualize tiny.py {checkpoint} --img photo.png photo.png
visualize tiny.py --img {image} photo.png
curves {log}
report {run}
token_labels {config} annotator.pth tokens.py --size 48 --out new --force --device cpu
token_labels annotator.py {checkpoint} tokens.py --size 48 --out new --force --device cpu
token_labels annotator.py annotator.pth {config} --size 48 --out new --force --device cpu
""")
# Scripts that do more than start one of these commands.
SCRIPTS = read_calls("""
tools/dataset_tools/bccd_to_coco.py {bccd} --out new
tools/dataset_tools/camvid_to_folders.py {camvid} --out new
tools/dataset_tools/label_maps_to_coco.py {camvid}/train {camvid}/trainannot --classes a=8 --out new
tools/misc/check_metafile.py {root}
""")
# And those that read nothing that anybody else has written.
READ_NOTHING = {
    'tools/benchmarks/alignment_overhead.py': 'makes its inputs',
    'tools/benchmarks/hf_dataset.py': 'makes its files',
    'tools/benchmarks/token_labeling_overhead.py': 'makes its inputs',
    'tools/benchmarks/token_merging_speed.py': 'makes its inputs',
    'tools/dataset_tools/cifar10_to_folders.py': 'what torchvision verifies by a hash',
    'tools/dataset_tools/image_files.py': 'no script',
    'tools/dataset_tools/make_digit_scenes.py': 'makes its files',
    'tools/misc/make_model_zoo.py': "the repository's own files",
}


def get_model(config: str, checkpoint: str) -> None:
    """From Python, instead of a command."""
    import mmtlalign

    mmtlalign.get_model(config, checkpoint)


def read_by_host(path: str) -> None:
    """What the hosts' own functions do once the package is imported."""
    import mmtlalign.apis  # noqa: F401

    read(path)


def read(path: str) -> None:
    """What they do without it, if it is not."""
    import mmengine
    from mmengine.runner import load_checkpoint
    from torch import nn

    if path.endswith(('.pth', '.safetensors')):
        load_checkpoint(nn.Linear(1, 1), path)
    else:
        mmengine.load(path)


FUNCTIONS = {
    get_model: [['{config}', 'tiny.pth'], ['tiny.py', '{checkpoint}']],
    read_by_host: [['{checkpoint}'], ['{json}'], ['list.pkl'], ['root_index/model-index.yml']],
}


def all_calls() -> list[tuple]:
    """(what, arguments) of every entry point."""
    every = COMMANDS | SCRIPTS | FUNCTIONS
    return [(what, call) for what, calls in every.items() for call in calls]
