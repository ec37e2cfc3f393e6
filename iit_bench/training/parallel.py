"""One training by several processes, as torchrun or accelerate starts them: nccl between GPUs, gloo for all else.

Each process computes some of a step's rows. With DDP each has all weights and gradients are averaged; with FSDP2 each has a share of every
weight, of its gradient and of its moments. Only process 0 writes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from iit_bench.errors import MachineError, UserError
from iit_bench.ranks import this_rank
from iit_bench.training import precision
from iit_bench.training.records import Running
from iit_bench.training.towers import in_towers

PATIENCE = timedelta(hours=12)  # of a process for the others: one of them scores and writes; a launcher ends all where one has failed
REPLICATED = 0.6  # of a GPU's memory: with parallel "auto" the state of a training that needs more is shared

_TRANSPORT = re.compile(r"gloo/transport|NCCL|TCPStore")  # of errors that are plain RuntimeErrors, gloo's for one

Result = TypeVar("Result")


class Processes:
    """This process among those of a training, on its device; by itself where nothing else was started."""

    def __init__(self, run: Running, *, number: int = 0, of: int = 1) -> None:
        self.run, self.number, self.of = run, number, of
        self.device = precision.device_of(run)
        self.how = ""  # "ddp" or "fsdp" once weights are spread over several processes
        self._wrapped: nn.Module | None = None

    @property
    def writes(self) -> bool:
        """Whether this process writes the files."""
        return self.number == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.sum(0.0)

    def decided(self, work: Callable[[], Result]) -> Result:
        """What process 0 finds by `work`; the others wait for it.

        Raises:
            UserError: in all processes, where process 0 raised it.
        """
        if self.of == 1:
            return work()
        box: list[Any] = [None, None]
        if self.writes:
            try:
                box[0] = work()
            except UserError as error:
                box[1] = str(error)
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if box[1] is not None:
            raise UserError(box[1])
        return box[0]  # type: ignore[no-any-return]

    def sum(self, value: float) -> float:
        """The sum over the processes."""
        if self.of == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(total)
        return float(total)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Around what needs the others.

        Raises:
            MachineError: another process has ended, or cannot be reached.
        """
        try:
            yield
        except RuntimeError as error:
            if self.of == 1 or not (isinstance(error, distributed.DistError) or _TRANSPORT.search(str(error))):
                raise
            reason = "another process of this training has ended, or cannot be reached"
            raise MachineError(reason, "start all of them again with --resume, which continues from the last checkpoint") from error

    # ------------------------------------------------------------ weights

    def spread(self, task: Any) -> None:
        """Move a task's module to this process's device and, of several, spread it as `run.parallel` says; `task.groups` follows.

        What is to have gradients must be settled before.
        """
        task.module.to(self.device)
        if self.of == 1:
            return
        self.how = self._choose(task.module)
        named = {
            name: [key for key, own in task.module.named_parameters() if any(own is p for p in group)]
            for name, group in task.groups.items()
        }
        whole = _Whole(task.module)
        if self.how == "ddp":
            whole.register_forward_hook(_reach_all)
            self._wrapped = nn.parallel.DistributedDataParallel(whole)
        else:
            self._wrapped = self._sharded(whole)
        parameters = dict(task.module.named_parameters())  # FSDP2 puts others in their place
        task.groups = {name: [parameters[key] for key in keys] for name, keys in named.items()}

    def _choose(self, module: nn.Module) -> str:
        if self.run.parallel != "auto":
            return self.run.parallel
        if self.device.type != "cuda":
            return "ddp"
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        needed = 4 * sum(p.numel() for p in module.parameters()) + 12 * trained  # float32 weights; gradients and two moments
        return "fsdp" if needed > REPLICATED * torch.cuda.get_device_properties(self.device).total_memory else "ddp"

    def _sharded(self, whole: _Whole) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        dtype = torch.bfloat16 if self.run.precision == "bfloat16" else None
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        mesh = init_device_mesh(self.device.type, (self.of,))
        # A frozen tower runs only for images that this process has not seen, so it is not shared.
        towers = {p for part in in_towers(whole) for p in part.parameters() if not p.requires_grad}
        layer_names = set(getattr(whole.module, "_no_split_modules", None) or ())
        for layer in [m for m in whole.modules() if type(m).__name__ in layer_names]:
            layer.register_forward_hook(_use_all)
            fully_shard(layer, mesh=mesh, mp_policy=policy, ignored_params=towers)
            layer.register_forward_pre_hook(_always_differentiated, prepend=True)  # before FSDP2 looks at the inputs
        whole.register_forward_hook(_use_all)
        fully_shard(whole, mesh=mesh, mp_policy=policy, ignored_params=towers)
        return whole

    def inside(self, work: Callable[[], Result]) -> Result:
        """Do work with the task's module where all its weights can be used."""
        if self._wrapped is None:
            return work()
        if self.how == "ddp" and not torch.is_grad_enabled():
            return work()
        result: Result = self._wrapped(work)
        if self.how == "fsdp" and not torch.is_grad_enabled():
            self._wrapped.reshard()  # type: ignore[operator]
        return result

    def alone(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around a pass whose gradients are not exchanged yet: those of the `last` pass of a step are, with what the others added up."""
        if self._wrapped is None or last:
            return contextlib.nullcontext()
        if isinstance(self._wrapped, nn.parallel.DistributedDataParallel):
            return self._wrapped.no_sync()
        return contextlib.nullcontext()

    def whole(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor that may be shared among the processes, as one; all of them have to ask."""
        full = getattr(tensor, "full_tensor", None)
        return tensor if full is None else full()

    def part(self, tensor: torch.Tensor, like: Any) -> torch.Tensor:
        """This process's share of a whole tensor, laid out as `like` is."""
        if not hasattr(like, "placements"):
            return tensor.to(like.device)  # type: ignore[no-any-return]
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(self.device), like.device_mesh, like.placements, src_data_rank=None)


class _Whole(nn.Module):
    """A module, and any work with it as one forward pass: DDP and FSDP2 act on forward passes, and tasks use parts of their module too."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, work: Callable[[], Any]) -> Any:
        """Do the work."""
        return work()


class _Reached(torch.autograd.Function):
    """A tensor as it is, whose backward pass comes by parameters too, with no gradient for them."""

    @staticmethod
    def forward(context: Any, output: torch.Tensor, *parameters: nn.Parameter) -> torch.Tensor:
        """The tensor."""
        context.others = len(parameters)
        return output.view_as(output)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        """Its gradient."""
        return gradient, *([None] * context.others)


def _reach_all(module: nn.Module, _inputs: Any, output: Any) -> Any:
    """Let a backward pass come by every trained parameter: DDP waits for all of them.

    Rows without images do not use the visual learner, and rows differ between processes. DDP could look for such parameters itself, in
    every pass, and warns where it finds none.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    return _Reached.apply(output, *trained) if torch.is_grad_enabled() and isinstance(output, torch.Tensor) else output  # type: ignore[no-untyped-call]


def _always_differentiated(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs of a shared layer, of which the first requires a gradient.

    Under a frozen LLM, text without images would not require one; then FSDP2 exchanges the layer's gradients at another moment than in
    a process whose rows have images, and the processes read each other's wrong.
    """
    first, *others = inputs
    return (first.requires_grad_(), *others) if torch.is_grad_enabled() and not first.requires_grad else inputs


def _use_all(module: nn.Module, _inputs: Any, output: Any) -> Any:
    """Give every trained parameter of a shared module a gradient, if only of 0: processes exchange them in one piece."""
    first = output[0] if isinstance(output, tuple) else output
    own = [p for p in module.parameters() if p.requires_grad and not hasattr(p, "placements")]
    if not torch.is_grad_enabled() or not isinstance(first, torch.Tensor) or not own:
        return output
    touched = first + 0 * torch.stack([p.flatten()[0].float() for p in own]).sum().to(first.dtype)
    return (touched, *output[1:]) if isinstance(output, tuple) else touched


def joined(run: Running) -> Processes:
    """This process of a training, as the launcher says, connected to the others until it ends.

    Raises:
        UserError: the launcher does not say where the others are, or says port 0.
    """
    rank = this_rank()
    if not (rank.several and "RANK" in os.environ):  # tasks of a Slurm array are trainings of their own
        return Processes(run)
    if "MASTER_ADDR" not in os.environ:
        raise UserError("RANK and WORLD_SIZE are set, but not MASTER_ADDR and MASTER_PORT; start the training with torchrun, or unset RANK")
    if os.environ.get("MASTER_PORT") == "0":  # each would wait for the others for PATIENCE
        raise UserError("MASTER_PORT is 0, where no process is found; start torchrun with --standalone, or with another --master-port")
    processes = Processes(run, number=rank.number, of=rank.of)
    if not distributed.is_initialized():
        gpus = processes.device.type == "cuda"
        if gpus:
            torch.cuda.set_device(processes.device)
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
        # Not before: a launcher's store keeps the addresses of a group that was left, and a second group would wait there for ever.
        atexit.register(distributed.destroy_process_group)
    return processes
