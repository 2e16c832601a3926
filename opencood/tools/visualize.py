#!/usr/bin/env python
"""Pictures of data, results and features.

python opencood/tools/visualize.py scenes -y hypes.yaml --out pictures               # what all agents see together
python opencood/tools/visualize.py scenes -y hypes.yaml --out pictures --agents 1    # what the ego sees alone
python opencood/tools/visualize.py trajectories -y hypes.yaml --out pictures
python opencood/tools/visualize.py noise RUN_A/AP030507.yaml RUN_B/AP030507.yaml --out noise.png
python opencood/tools/visualize.py training RUN_A RUN_B --out training.png
python opencood/tools/visualize.py weights --model_dir RUN --out pictures            # where agents are trusted
python opencood/tools/visualize.py features --model_dir RUN                          # how far apart features are
python opencood/tools/visualize.py sequence pictures film.gif
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    import _cli  # noqa: F401  (run as a script: puts the clone's root on the import path)

from opencood.tools._cli import Parser, at_least, number, run


def parser() -> Parser:
    """One subcommand for each kind of picture."""
    made = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    scenes = commands.add_parser("scenes", help="frames of a data set from above, with all objects")
    scenes.add_argument("--agents", type=at_least(1), metavar="K", help="only the points of the first K agents")
    paths = commands.add_parser("trajectories", help="the ways of agents and objects through each scenario")
    for one in (scenes, paths):
        one.add_argument("-y", "--hypes_yaml", required=True, type=Path)
        one.add_argument("--out", required=True, type=Path, metavar="FOLDER")
        one.add_argument("--split", choices=("train", "validate", "test"), default="test", help="(%(default)s)")
        one.add_argument("--limit", type=at_least(1), default=40, metavar="N", help="so many pictures (%(default)s)")
    noise = commands.add_parser("noise", help="AP against pose noise, a curve for each summary")
    noise.add_argument("files", nargs="+", type=Path, metavar="AP030507.yaml", help="from inference_w_noise.py")
    training = commands.add_parser("training", help="validation loss and speed of trainings")
    training.add_argument("files", nargs="+", type=Path, metavar="RUN", help="run folders")
    for one in (noise, training):
        one.add_argument("--out", required=True, type=Path, metavar="FILE.png")
    weights = commands.add_parser("weights", help="where a pyramid fusion trusts each agent, on each level")
    weights.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    features = commands.add_parser("features", help="CKA, MMD and cosine between the maps of agents that meet")
    for one in (weights, features):
        one.add_argument("--model_dir", required=True, type=Path)
        one.add_argument("--limit", type=at_least(1), default=4, metavar="N", help="so many frames (%(default)s)")
        one.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1...")
        one.add_argument("--untrained", action="store_true", help="go on without a checkpoint, with random weights")
    film = commands.add_parser("sequence", help="all pictures of a folder, by name, as one moving picture")
    film.add_argument("folder", type=Path)
    film.add_argument("out", type=Path, metavar="FILE.gif")
    film.add_argument(
        "--rate", type=number(0.1, 50), default=5.0, metavar="HZ", help="pictures per second (%(default)s)"
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, draw, say what was written."""
    given = parser().parse_args(argv)
    told = _lines(given)
    print("\n".join(told))


def _lines(given: argparse.Namespace) -> list[str]:
    from opencood.experiments import data_pictures, feature_view, result_curves

    match given.command:
        case "scenes":
            files = data_pictures.draw_frames(given.hypes_yaml, given.out, given.split, given.limit, given.agents)
        case "trajectories":
            files = data_pictures.draw_trajectories(given.hypes_yaml, given.out, given.split, given.limit)
        case "noise":
            files = [result_curves.draw_noise(given.files, given.out)]
        case "training":
            files = [result_curves.draw_training(given.files, given.out)]
        case "weights":
            options = feature_view.ViewOptions(given.model_dir, given.limit, given.device, given.untrained)
            files = feature_view.draw_weights(options, given.out)
        case "features":
            options = feature_view.ViewOptions(given.model_dir, given.limit, given.device, given.untrained)
            return feature_view.distances(options)
        case _:
            files = [data_pictures.film(given.folder, given.out, given.rate)]
    return [f"wrote {file}" for file in files]


if __name__ == "__main__":
    run(main)
