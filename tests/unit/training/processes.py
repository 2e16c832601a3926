"""Start a few processes that meet by gloo, run one function, and collect what each returns."""

import os
import socket
import traceback

import torch
import torch.multiprocessing as multiprocessing

from opencood.training.distributed import join_world


def in_processes(function, size, *arguments):
    """Values of ``function(world, *arguments)`` on ranks 0, 1, ..."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = [(rank, size, port, function, arguments, queue) for rank in range(size)]
    workers = [context.Process(target=_run, args=place) for place in places]
    for worker in workers:
        worker.start()
    answers = dict(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(timeout=60)
    failures = [answer for answer in answers.values() if isinstance(answer, str)]
    assert not failures, failures[0]
    return [answers[rank] for rank in range(size)]


def _run(rank, size, port, function, arguments, queue):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        world = join_world("cpu")
        queue.put((rank, function(world, *arguments)))
        world.wait()
        world.leave()
    except Exception:  # noqa: BLE001  (the parent shows it)
        queue.put((rank, traceback.format_exc()))
