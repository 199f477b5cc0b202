"""What a launcher says, what is whose, and what is refused; without other processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.material import Careless
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli.several import require_divisible
from vlmprompt.data.records import Record
from vlmprompt.errors import ExitCode, InputError, Interrupted, UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.divided import divides_classes, divides_rows
from vlmprompt.parallel import meeting
from vlmprompt.parallel.failure import PeerError, Words, peer_error
from vlmprompt.parallel.group import ALONE, Group
from vlmprompt.parallel.launched import Launch, launch
from vlmprompt.parallel.meeting import join
from vlmprompt.parallel.rows import places_of, shares_of, whole_batches
from vlmprompt.training.batches import ImageBatches
from vlmprompt.training.device import resolve_device
from vlmprompt.training.team import Team

NAMES = ("cat", "dog")


def member(rank: int, size: int) -> Group:
    """One of several, that never meets the others."""
    return Group(Launch(rank, size, rank))


def test_a_process_of_its_own_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # of somebody's script
    assert launch() is None and join() is ALONE
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launch() is None and ALONE.gather(b"own") == [b"own"] and ALONE.from_first(b"own") == b"own"


def test_what_a_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert launch() == Launch(5, 8, 5)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launch() == Launch(5, 8, 1)
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(InputError, match="RANK is 5 of WORLD_SIZE 5"):
        launch()
    monkeypatch.setenv("RANK", "-1")
    with pytest.raises(InputError, match="variable RANK is '-1', and no number"):
        launch()
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(InputError, match="but MASTER_PORT is not") as error:
        launch()
    assert "torchrun" in str(error.value.hint)


def test_a_torch_that_cannot_connect_processes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "launch", lambda: Launch(0, 2, 0))
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: False)
    with pytest.raises(InputError, match="built without gloo"):
        join()


def test_processes_that_cannot_meet_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "launch", lambda: Launch(1, 2, 1))
    with pytest.raises(InputError, match="process 2 of 2 cannot meet the others"):
        join("nowhere://")


@pytest.mark.parametrize(("n", "size", "expected"), [(7, 3, [3, 2, 2]), (2, 3, [1, 1, 0]), (6, 2, [3, 3])])
def test_shares_are_neighbours_of_nearly_one_size(n: int, size: int, expected: list[int]) -> None:
    shares = [member(rank, size).share(n) for rank in range(size)]
    assert [len(share) for share in shares] == expected
    assert [i for share in shares for i in share] == list(range(n))


def test_a_process_without_images_computes_one_that_counts_for_nothing() -> None:
    shares = [shares_of(member(rank, 3), 9, 4) for rank in range(3)]  # of batches of 4, 4 and 1
    assert [[(s.start, s.stop) for s in own] for own in shares] == [
        [(0, 2), (0, 2), (0, 1)],
        [(2, 3), (2, 3), (0, 1)],
        [(3, 4), (3, 4), (0, 1)],
    ]
    assert [own[2].weight for own in shares] == [1.0, 0.0, 0.0] and shares[0][0].weight == 0.5
    assert places_of(shares[1], 4).tolist() == [2, 6, 8]
    assert [list(whole_batches(member(rank, 3), 9, 4)) for rank in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert [list(whole_batches(member(rank, 3), 3, 4)) for rank in range(3)] == [[0, 1, 2], [], []]


def test_each_process_reads_its_own_images_in_their_own_view(photo_records: list[Record]) -> None:
    indices: list[list[list[int]]] = []

    def batches(group: Group) -> list[tuple[list[int], torch.Tensor]]:
        source = ImageBatches(
            photo_records,
            lambda image: torch.rand(3, 2, 2),
            4,
            seed=3,
            augment=True,
            device=torch.device("cpu"),
            workers=0,
            group=group,
        )
        found = list(source.epoch(1, skip=1, steps=3))
        indices.append([b.index_of_all.tolist() for b in found])
        return [(b.index_B.tolist(), b.images) for b in found]  # type: ignore[misc]

    whole, first, second = (batches(group) for group in (ALONE, member(0, 2), member(1, 2)))
    assert indices[0] == indices[1] == indices[2]
    for (index, images), (one, its), (other, theirs) in zip(whole, first, second, strict=True):
        if len(index) == 1:  # the second has none, and computes the first one's
            assert one == other == index
        else:
            assert one + other == index and torch.equal(torch.cat([its, theirs]), images)


@pytest.fixture
def photo_records() -> list[Record]:
    """Nine drawings."""
    from vlmprompt.data.load import load_dataset

    return list(load_dataset("doodles").split("train")[:9])


class Coupled(CoOp):
    """Overrides the loss, and says nothing of it."""

    def loss(self, output, labels, *, draws=None, weights=None):  # type: ignore[no-untyped-def]
        return super().loss(output, labels, draws=draws, weights=weights)


class Uncoupled(Coupled):
    capabilities = CoOp.capabilities


def test_a_subclass_that_overrides_a_hook_says_anew_what_may_be_divided(tiny_backbone: Backbone) -> None:
    method = build_method("coop", tiny_backbone, NAMES, {"n_ctx": 1})
    for cls, rows in ((CoOp, True), (Coupled, False), (Uncoupled, True), (Careless, False)):
        own = cls(tiny_backbone, NAMES, method.config)
        assert (divides_rows(own), divides_classes(own)) == (rows, cls is not Careless)


def test_more_processes_than_images_in_a_batch_are_refused(tiny_backbone: Backbone) -> None:
    coop = build_method("coop", tiny_backbone, NAMES, {"n_ctx": 1})
    with pytest.raises(InputError, match="4 processes were launched, but a batch has 3 images") as error:
        Team.of(member(0, 4), coop, 3)
    assert "launch 3 at most" in str(error.value.hint)
    plot = build_method("plot", tiny_backbone, NAMES, {"n_ctx": 1})
    assert not Team.of(member(0, 4), plot, 3).rows  # each has the whole batch


def test_each_process_has_a_card_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "_joined", member(1, 2))
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda:1")
    with pytest.raises(InputError, match="all 2 processes of this run would use device 'cuda:0'"):
        resolve_device("cuda:0")
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(InputError, match="this torch has no nccl"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="'cuda:1' is not available: this machine has 1"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("command", "args"), [("sweep", []), ("methods list", []), ("train", ["train", "--dry-run"]), ("report", [])]
)
def test_work_of_one_process_is_refused_under_a_launcher(command: str, args: list[str]) -> None:
    require_divisible(None, command, args)
    with pytest.raises(UsageError, match="2 processes were launched for"):
        require_divisible(Launch(0, 2, 0), command, args)
    require_divisible(Launch(0, 2, 0), "train", ["train"])
    require_divisible(Launch(0, 2, 0), "evaluate", [])


def test_the_last_words_of_a_process(tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 3)
    first, second = (Words(store, rank, 3) for rank in (0, 1))
    first.begin(), second.begin()
    assert first.left() is None and "killed" in first.of_another().message
    second.leave(UsageError("no such option", hint="see --help"))
    found = first.of_another()
    assert (found.message, found.hint) == ("process 2 of 3: no such option", "see --help")
    assert found.exit_code == ExitCode.USAGE and second.left() is None  # not its own
    first.heard(broken=True)
    assert second.wait_until_heard() == b"broken"
    second.begin(), first.begin()
    assert first.left() is None  # what was said of the part before is over
    second.leave(KeyboardInterrupt())
    assert first.of_another().exit_code == ExitCode.INTERRUPTED
    second.begin(), first.begin()
    second.leave(ZeroDivisionError("by zero"))
    assert first.of_another().message == "process 2 of 3: ZeroDivisionError: by zero"
    second.begin(), first.begin()
    second.leave(found)
    assert first.left() is None  # who ends because of another has nothing to add


def test_an_interruption_in_the_midst_of_anothers_end_is_its_end() -> None:
    error: BaseException | None = None
    try:
        try:
            raise PeerError("process 2 of 2: gone")
        except PeerError:
            raise KeyboardInterrupt from None
    except KeyboardInterrupt as raised:
        error = raised
    assert isinstance(peer_error(error), PeerError)
    assert peer_error(Interrupted("stopped")) is None
