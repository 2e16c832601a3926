"""Agents that drop out: their messages do not arrive. The ego always hears itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame
from opencood.errors import ConfigError, nearest
from opencood.registry import register


@register("perturbation", "drop_agents")
@dataclass(frozen=True)
class DropAgents:
    """Every agent but the ego is unheard with some probability; what it lists stays ground truth.

    Attributes:
        probability: of being unheard.
        per: ``frame`` (drawn for every agent and frame: a bad channel) or ``run`` (drawn once for every agent of a
            scenario: a broken radio).
        run_seed: of ``run``; the configuration's own when absent.
    """

    probability: float
    per: str = "frame"
    run_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(
                f"perturb.drop_agents.probability: expected a number from 0 to 1, found {self.probability:g}."
            )
        if self.per not in ("frame", "run"):
            raise ConfigError(
                f"perturb.drop_agents.per: '{self.per}' is none of frame, run.{nearest(self.per, ('frame', 'run'))}"
            )

    def __call__(self, frame: Frame, draws: Draws) -> Frame:
        """Return the frame whose dropped agents are ``unheard``."""
        run = Draws.keyed(self.run_seed, "drop_agents", frame.scenario)
        source = run if self.per == "run" else draws

        def heard(agent: Agent) -> bool:
            return agent is frame.ego or source.child(agent.id).numpy.random_sample() >= self.probability

        kept = tuple(agent for agent in frame.agents if heard(agent))
        dropped = tuple(agent for agent in frame.agents if all(agent is not other for other in kept))
        return replace(frame, agents=kept, unheard=(*frame.unheard, *dropped))
