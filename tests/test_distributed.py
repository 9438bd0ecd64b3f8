"""Two processes with gloo against one."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from drlib.segmentation.distributed import gather_rows, rank, sum_over_ranks, world_size


def in_two_processes(work, folder: Path, *arguments) -> list:
    """Return what ``work(*arguments)`` returned in each of two processes that form one gloo group."""
    mp.spawn(_process, (work, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


def _process(number: int, work, folder: str, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    torch.save(work(*arguments), f"{folder}/{number}.pt")
    dist.destroy_process_group()


def _sums_and_rows() -> dict:
    own = torch.tensor([1.0, 2.0]) * (rank() + 1)
    own.requires_grad_()
    total = sum_over_ranks(own)
    (total**2).sum().backward()
    rows = gather_rows(torch.full((2 + rank(), 3), rank()))
    return {
        "size": world_size(),
        "total": total.detach(),
        "gradient": own.grad,
        "rows": rows,
        "none": gather_rows(torch.zeros(2)[: 2 * rank()]),
    }


def test_sums_and_rows_of_two_processes(tmp_path):
    for result in in_two_processes(_sums_and_rows, tmp_path):
        assert result["size"] == 2
        assert result["total"].tolist() == [3, 6]
        assert result["gradient"].tolist() == [2 * 2 * 3, 2 * 2 * 6]  # both processes' gradients, summed
        assert result["rows"][:, 1].tolist() == [0, 0, 1, 1, 1]
        assert result["none"].shape == (2,)


def test_one_process_is_left_alone():
    tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (world_size(), rank()) == (1, 0)
    assert sum_over_ranks(tensor) is tensor
    assert torch.equal(gather_rows(tensor), tensor)
