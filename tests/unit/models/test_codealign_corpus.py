"""CodeAlign's published files build the published detectors."""

import json
import os
from pathlib import Path

import pytest
import torch

from opencood.config.loader import load_yaml
from opencood.errors import CheckpointError
from opencood.experiments.hypes_check import state_dict_digest
from opencood.models.build import build_model

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "compat"
FILES = [
    "dairv2x/Heter/codebook_pyramid_c2c.yaml",
    "dairv2x/Heter/codebook_pyramid_c2c_infer.yaml",
    "dairv2x/Heter/codebook_pyramid_lidar.yaml",
    "opv2v/Heter_group/codebook/codebook_pyramid_c2c_infer.yaml",
    "opv2v/Heter_group/codebook/codebook_pyramid_fixenc_aligner.yaml",
    "opv2v/Heter_group/codebook/pyramid.yaml",
]
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of published files is not here")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder in which the modality definitions lie where the files look for them."""
    root = tmp_path_factory.mktemp("CodeAlign")
    (root / "opencood").mkdir()
    (root / "opencood" / "modality_assign").symlink_to(CORPUS / "modality_assign" / "CodeAlign")
    return root


@pytest.mark.parametrize("name", FILES)
def test_published_files_build_the_published_detectors(name, clone):
    status = json.loads((CORPUS / "build_status.json").read_text())[f"CodeAlign/{name}"]
    here = Path.cwd()
    os.chdir(clone)
    try:
        hypes = load_yaml(CORPUS / "hypes" / "CodeAlign" / name)
        if status.get("missing_checkpoints"):
            with pytest.raises(CheckpointError, match="missing checkpoints"), torch.device("meta"):
                build_model(hypes)
        with torch.device("meta"):
            model = build_model(hypes.replaced({**hypes, "missing_checkpoints": "scratch"}))
    finally:
        os.chdir(here)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert sum(p.numel() for p in model.parameters()) == status["params"]
    assert (len(shapes), state_dict_digest(shapes)) == (status["state_dict_entries"], status["sha1"])
