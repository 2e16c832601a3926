"""One process or many: who we are, small messages between ranks, and the exchange of gradients.

Started by ``torchrun`` or ``python -m torch.distributed.launch --use_env`` (or SLURM); without their variables a run
is a single process. NCCL carries tensors between GPUs, gloo between CPUs; small host values always travel by gloo.
Source: spec tools.md section 2, "Distributed".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from opencood.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a run as one of them sees it."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    messages: Any = None  # process group of small host values

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.messages)
        return values

    def sum_by_key(self, values: Mapping[Any, float]) -> dict[Any, float]:
        """Sum mappings over the ranks; a rank that lacks a key adds nothing."""
        total: dict[Any, float] = {}
        for mapping in self.gather(dict(values)):
            for key, value in mapping.items():
                total[key] = total.get(key, 0.0) + value
        return total

    def sum_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def share_model(self, model: torch.nn.Module) -> None:
        """Give every rank the weights and statistics of rank 0."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier(group=self.messages)

    def leave(self) -> None:
        """End the communication between the ranks."""
        if self.size > 1:
            dist.destroy_process_group()


def join_world(
    device: str | None = None,
    dist_url: str = "env://",
    environment: Mapping[str, str] | None = None,
    timeout: timedelta = timedelta(minutes=30),
) -> World:
    """Find out which process of how many this is, and connect to the others.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``; None takes CUDA where it is available.
        dist_url: where the ranks meet; ``env://`` reads MASTER_ADDR and MASTER_PORT.
        environment: the process environment by default.

    Raises:
        ConfigError: CUDA is asked for but not there, there are fewer GPUs than processes, or the launcher's variables
            are incomplete.
    """
    rank, size, local = _place(os.environ if environment is None else environment)
    chosen = choose_device(device, local)
    if size == 1:
        return World(device=chosen)
    if chosen.type == "cuda":
        _refuse_shared_gpus(int((os.environ if environment is None else environment).get("LOCAL_WORLD_SIZE", "1")))
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=dist_url, rank=rank, world_size=size, timeout=timeout)
    messages = dist.new_group(backend="gloo", timeout=timeout) if backend == "nccl" else dist.group.WORLD
    return World(rank, size, chosen, messages)


def choose_device(wanted: str | None = None, local_rank: int = 0) -> torch.device:
    """The device of this process: the wanted one, else a GPU, else the CPU.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if wanted is None:
        wanted = "cuda" if available else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(f"--device: '{wanted}' is no device. Use cpu, cuda or cuda:1.") from error
    if device.type != "cuda":
        return device
    if not available:
        raise ConfigError(f"--device {wanted}: no CUDA device is available here. Use --device cpu.")
    return device if device.index is not None else torch.device("cuda", local_rank % torch.cuda.device_count())


def _refuse_shared_gpus(processes: int) -> None:
    """NCCL cannot give one GPU to two processes, and says so in a way that nobody understands."""
    gpus = torch.cuda.device_count()
    if processes > gpus:
        raise ConfigError(
            f"{processes} processes on this machine, but {gpus} GPU(s) that CUDA_VISIBLE_DEVICES shows and that exist. "
            f"Use --nproc_per_node={gpus}, or --device cpu."
        )


def _place(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """(rank, number of processes, rank on this machine) from the launcher's variables."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank = int(environment["RANK"])
        return rank, int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", rank))
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        if "MASTER_ADDR" not in environment:
            raise ConfigError(
                "SLURM_NTASKS > 1 needs MASTER_ADDR and MASTER_PORT: the host and a free port of the first task."
            )
        rank = int(environment["SLURM_PROCID"])
        return rank, int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_LOCALID", rank))
    return 0, 1, 0
