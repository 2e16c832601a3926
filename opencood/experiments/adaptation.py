"""Domain adaptation of V2V4Real: training on a labelled and an unlabelled data set (homogeneous.md 3.12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from opencood.config.flavor import quirk
from opencood.config.loader import Hypes
from opencood.config.tree import lookup
from opencood.data.build import seed_of
from opencood.data.paired import TARGET, PairedDataset
from opencood.errors import ConfigError
from opencood.experiments.build import build_dataset
from opencood.losses.domain_adaptation import DomainAdaptation
from opencood.losses.parts import Loss, Outputs, Parts, Targets
from opencood.models.detector import Detector
from opencood.models.domains import forward_domains
from opencood.registry import Entry, Registry

SECOND = "root_dir_target"
WIDTH = "DA_feature_head"
_OURS = tuple(f"{name}_{part}" for name in ("DA_feature", "DA_instance") for part in ("head", "weight"))
ARGUMENTS = (*_OURS, "grl_feature_weight", "grl_instance_weight")


def adapts_domains(hypes: Mapping[str, Any]) -> bool:
    """Whether a configuration trains on a second domain."""
    return bool(hypes.get(SECOND)) and lookup(hypes, f"model.args.{WIDTH}") is not None


def labelled_part(dataset: Any) -> Any:
    """The data set with labels in what is trained on."""
    return dataset.source if isinstance(dataset, PairedDataset) else dataset


class AdaptedDetector(nn.Module):
    """A detector that also looks at the batch of the other domain in training, and the classifiers of domains.

    What is saved and loaded as weights is the detector alone; ``last.ckpt`` holds both.
    """

    def __init__(self, detector: Detector, domains: DomainAdaptation) -> None:
        super().__init__()
        self.detector, self.domains = detector, domains

    @property
    def published(self) -> nn.Module:
        """The part whose weights are published."""
        return self.detector

    def forward(self, ego: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of the detector; with a second domain also ``target_*`` (see ``forward_domains``)."""
        if TARGET not in ego:
            return self.detector(ego)
        here = {key: value for key, value in ego.items() if key != TARGET}
        return forward_domains(self.detector, here, ego[TARGET])


class AdaptedLoss(Loss):
    """The loss of the detector on the source, and what the classifiers of domains say."""

    def __init__(self, detection: Loss, domains: DomainAdaptation) -> None:
        self.detection, self.domains = detection, domains

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The parts of both; in validation, which knows one domain, those of the detector."""
        parts = self.detection.parts(outputs, targets, suffix)
        return parts | (self.domains.parts(outputs, targets) if "target_feature" in outputs else {})

    def __call__(self, outputs: Outputs, targets: Targets, suffix: str = "") -> tuple[Tensor, dict[str, Tensor]]:
        """See the base."""
        return super().__call__(outputs, targets, suffix)


def adapted(hypes: Hypes, model: nn.Module, loss: Any, dataset: Any) -> tuple[nn.Module, Any, Any]:
    """Return detector, loss and training set with the second domain.

    With ``parity: published`` the classifiers stay as they begin, because the published optimiser never sees them.

    Raises:
        ConfigError: an argument of the classifiers is missing, or the loss is a user's own.
        DataError: the second data folder is missing or broken.
    """
    if not isinstance(loss, Loss) or not isinstance(model, Detector):
        raise ConfigError(f"{SECOND}: domains are adapted for detectors and losses of this framework only.")
    args = {key: value for key, value in hypes["model"]["args"].items() if key in ARGUMENTS}
    entry = Entry("loss", "domain adaptation", DomainAdaptation)
    domains = DomainAdaptation(**Registry.check_arguments(entry, args, "model.args"))
    if not quirk(hypes, "domain_classifiers_train"):
        domains.requires_grad_(False)
    there = build_dataset(hypes.replaced({**hypes, "root_dir": hypes[SECOND], "labels": False}), train=True)
    paired = PairedDataset(dataset, there, seed_of(hypes))
    return AdaptedDetector(model, domains), AdaptedLoss(loss, domains), paired
