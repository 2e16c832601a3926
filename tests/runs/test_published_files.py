"""Published files of every data set but OPV2V read simulated data of its format, without edits."""

from pathlib import Path

import pytest

from opencood.config.loader import load_yaml
from opencood.experiments.build import build_dataset

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CORPUS = Path(__file__).resolve().parents[3] / "shared" / "compat" / "hypes"
# Where published files look for a data set, and which format that is.
FOLDERS = {
    "dataset/V2XSET": "v2xset",
    "dataset/v2xsim2_info": "v2xsim",
    "dataset/my_dair_v2x/v2x_c/cooperative-vehicle-infrastructure": "dairv2x",
    "opencood/dataset/dair_v2x": "dairv2x",
    "opencood/dataset/v2xreal": "v2xreal",
}
# One of each repository, data set and way of fusing.
FILES = (
    "CoAlign/dairv2x/lidar_only_with_noise/SECOND.yaml",
    "CoAlign/dairv2x/lidar_only_with_noise/SECOND_early.yaml",
    "CoAlign/dairv2x/lidar_only_with_noise/pointpillar_disconet.yaml",
    "CoAlign/v2xsim/lidar_only_with_noise/SECOND.yaml",
    "CoAlign/v2xsim/lidar_only_with_noise/pointpillar_early.yaml",
    "CoAlign/v2xsim/lidar_only_with_noise/pointpillar_selfatt.yaml",
    "CodeAlign/v2xset/LiDAROnly/lidar_cobevt.yaml",
    "CodeAlign/v2xset/Single/m1_pointpillar_pretrain.yaml",
    "GenComm/dairv2x/LiDAROnly/lidar_attfuse.yaml",
    "GenComm/v2xreal/GenComm_yamls/baseline/stage1/m1_attfuse.yaml",
    "GenComm/v2xreal/GenComm_yamls/gencomm/stage2/m1m2m3m4_att_infer.yaml",
    "HEAL/dairv2x/LiDAROnly/lidar_v2xvit.yaml",
    "HEAL/v2xset/LiDAROnly/lidar_attfuse.yaml",
    "HEAL/v2xsim2/LiDAROnly/lidar_cobevt.yaml",
    "HEAL/v2xsim2/Single/m1_pointpillar.yaml",
)


@pytest.fixture(scope="module")
def published_clone(clone):
    """The clone with the simulated data where published files look for them."""
    for folder, name in FOLDERS.items():
        place = clone / folder
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(clone / "dataset" / f"sim_{name}", target_is_directory=True)
    return clone


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize("name", FILES)
def test_a_published_file_reads_simulated_data(published_clone, monkeypatch, name):
    monkeypatch.chdir(published_clone)
    hypes = load_yaml(CORPUS / name)
    for train in (True, False):
        dataset = build_dataset(hypes, train=train)
        collate = dataset.collate_batch_train if train else dataset.collate_batch_test
        batches = [collate([dataset[number]])["ego"] for number in range(len(dataset))]
        assert sum(int(batch["object_bbx_mask"].sum()) for batch in batches) > 0
