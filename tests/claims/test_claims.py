"""One holder at a time, whoever dies, stands still or wakes up; nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from vlmprompt.claims import claim as claims
from vlmprompt.claims import owner as owners
from vlmprompt.claims.claim import BusyError, Claim, claim, turn
from vlmprompt.claims.owner import Owner
from vlmprompt.claims.place import FOLDER, STALE_S, is_stale
from vlmprompt.claims.work import tidy
from vlmprompt.errors import ExitCode, InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that was started and waited for."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def plant(folder: Path, owner: Owner, name: str = "run") -> Path:
    """A claim that somebody else has; gives its file."""
    file = folder / FOLDER / name / owner.token
    file.parent.mkdir(parents=True)
    file.write_text(owner.dump())
    return file


def elsewhere(**changes: str | int) -> Owner:
    """A process of another machine."""
    return replace(Owner.here(), **{"host": "cluster-7", "kernel": "another", **changes})  # type: ignore[arg-type]


def test_held_by_one_and_gone_afterwards(folder: Path) -> None:
    with claim(folder, "run", "run a") as held:
        held.check()
        with pytest.raises(BusyError, match=f"^run a is in use by process {os.getpid()} on .* since 2") as error:
            claim(folder, "run", "run a").__enter__()
        assert error.value.exit_code == ExitCode.INPUT
        assert "wait" in str(error.value.hint)
        with claim(folder, "other", "run b"):
            assert sorted(p.name for p in (folder / FOLDER).iterdir()) == ["other", "run"]
    assert list(folder.iterdir()) == []
    with claim(folder, "run", "run a"):
        pass


def test_a_folder_that_was_not_there_goes_again_unless_something_is_in_it(tmp_path: Path) -> None:
    with claim(tmp_path / "new" / "run", "run", "run"):
        assert (tmp_path / "new" / "run").is_dir()
    assert not (tmp_path / "new" / "run").exists()
    with claim(tmp_path / "run", "run", "run"):
        (tmp_path / "run" / "file").write_text("")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["file"]


def test_an_error_inside_gives_it_up(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim(folder, "run", "run"):
        _ = 1 / 0
    assert list(folder.iterdir()) == []


# -- the dead ----------------------------------------------------------------------------------------
def test_a_dead_process_of_this_machine_holds_nothing(folder: Path, dead: int) -> None:
    left = plant(folder, replace(Owner.here(), pid=dead))
    with claim(folder, "run", "run") as held:
        held.check()
        assert not left.exists()
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not say when a process began")
def test_a_number_that_came_again_is_another_process(folder: Path) -> None:
    plant(folder, replace(Owner.here(), began="1"))
    with claim(folder, "run", "run"):
        pass


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="other systems have nothing to tell a zombie by")
def test_a_killed_process_that_nobody_has_waited_for_is_dead(folder: Path) -> None:
    code = "import sys; from vlmprompt.claims.owner import Owner; print(Owner.here().dump(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        owner = Owner.parse(process.stdout.readline())
        assert owner is not None and owner.pid == process.pid and not owner.is_gone()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not waited for
        assert owner.is_gone()


def test_a_process_of_another_machine_is_judged_by_its_heartbeat(folder: Path, dead: int) -> None:
    """By the files' own times: no clock of any machine is asked."""
    file = plant(folder, elsewhere(pid=dead))
    fresh = folder / "fresh"
    fresh.write_text("")
    for age_s, stale in ((STALE_S - 1, False), (STALE_S, False), (STALE_S + 1, True), (-5000, False)):
        os.utime(fresh, (2e9, 2e9))
        os.utime(file, (2e9 - age_s, 2e9 - age_s))
        assert is_stale(file, Owner.parse(file.read_text()), fresh) is stale
    os.utime(file, (1e9, 1e9))  # long ago
    with claim(folder, "run", "run"):
        assert not file.exists()


def test_somebody_alive_elsewhere_keeps_it(folder: Path) -> None:
    file = plant(folder, elsewhere(pid=77))
    with pytest.raises(BusyError, match="process 77 on cluster-7"):
        claim(folder, "run", "run").__enter__()
    assert file.exists()


def test_what_no_owner_wrote_is_held_until_it_is_old(folder: Path) -> None:
    file = plant(folder, elsewhere(token="strange"))
    file.write_bytes(b"\xff\x00 half a li")
    with pytest.raises(BusyError, match="another process"):
        claim(folder, "run", "run").__enter__()
    os.utime(file, (1e9, 1e9))
    with claim(folder, "run", "run"):
        pass


def test_claims_of_the_dead_are_tidied_up_with_ones_own(folder: Path, dead: int) -> None:
    plant(folder, replace(Owner.here(), pid=dead, token="1"), "forgotten")
    half_made = plant(folder, replace(Owner.here(), pid=dead, token="2"), ".2")
    alive = plant(folder, elsewhere(), "alive")
    (folder / FOLDER / "empty").mkdir()
    with claim(folder, "run", "run"):
        pass
    assert not half_made.exists()
    assert [p.name for p in (folder / FOLDER).iterdir()] == [alive.parent.name]


def test_a_named_pipe_among_claims_is_not_waited_for(folder: Path) -> None:
    """Nobody can tell whose it is: somebody's, until it is stale."""
    place = folder / FOLDER / "run"
    place.mkdir(parents=True)
    os.mkfifo(place / "pipe")
    with pytest.raises(BusyError, match="in use by another process"), claim(folder, "run", "run a"):
        pass


def test_claims_of_the_dead_go_from_all_folders_below_once_nobody_wants_them(folder: Path, dead: int) -> None:
    below = folder / "references" / "probe"
    below.mkdir(parents=True)
    for place in (folder, below):
        plant(place, replace(Owner.here(), pid=dead))
    with claim(below, "mine", "mine"):
        tidy(folder)
        assert [path.parent.name for path in below.rglob("*") if path.is_file()] == ["mine"]
    assert not (folder / FOLDER).exists() and not (below / FOLDER).exists()


# -- those who stood still ----------------------------------------------------------------------------
def test_whoever_was_taken_over_stops_and_removes_nothing(folder: Path) -> None:
    with ExitStack() as other, claim(folder, "run", "run a") as held:
        os.utime(held.file, (1e9, 1e9))  # as if it had been suspended
        second = other.enter_context(claim(folder, "run", "run a"))
        with pytest.raises(BusyError, match=r"run a was taken over by process .* stood still") as error:
            held.check()
        assert error.value.exit_code == ExitCode.INPUT
        held.release()
        second.check()
        assert not held.beat()


def test_a_check_is_a_heartbeat(folder: Path) -> None:
    with claim(folder, "run", "run") as held:
        os.utime(held.file, (1e9, 1e9))
        held.check()
        assert held.file.stat().st_mtime > 1e9


def test_a_thread_beats_meanwhile_and_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.001)
    beats = threading.Semaphore(0)
    beat = Claim.beat

    def counted(self: Claim) -> bool:
        beats.release()
        return beat(self)

    monkeypatch.setattr(Claim, "beat", counted)
    with claim(folder, "run", "run of the heart"):
        (heart,) = [thread for thread in threading.enumerate() if "run of the heart" in thread.name]
        assert heart.daemon  # it keeps no process alive
        for _ in range(3):
            assert beats.acquire(timeout=60)
    heart.join(timeout=60)
    assert not heart.is_alive()


def test_a_folder_that_vanished_is_left_to_the_next_write(tmp_path: Path) -> None:
    with claim(tmp_path / "run", "run", "run") as held:
        held.release()
        assert not (tmp_path / "run" / FOLDER).exists()
        (tmp_path / "run").rmdir()
        held.check()


# -- many at once -------------------------------------------------------------------------------------
def test_of_many_takers_of_a_dead_claim_one_wins(folder: Path, dead: int) -> None:
    """Eight threads meet at a barrier, each a taker of its own; twenty times."""
    inside, most, done = 0, 0, []
    lock, barrier = threading.Lock(), threading.Barrier(8)

    def contend(round_: int) -> None:
        nonlocal inside, most
        barrier.wait()
        try:
            with claim(folder, "run", "run"):
                with lock:
                    inside += 1
                    most = max(most, inside)
                    done.append(round_)
                barrier.wait()  # all others have been refused meanwhile
                with lock:
                    inside -= 1
        except BusyError:
            barrier.wait()

    def rounds() -> None:
        for round_ in range(20):
            barrier.wait()
            contend(round_)
            if barrier.wait() == 0:
                plant(folder, replace(Owner.here(), pid=dead, token=f"dead{round_}"))

    plant(folder, replace(Owner.here(), pid=dead, token="dead"))
    threads = [threading.Thread(target=rounds) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert most == 1
    assert done == list(range(20))


def test_turns_are_taken_one_after_the_other(folder: Path) -> None:
    counter = folder / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(20):
            with turn(folder, "counter", "counter"):
                counter.write_text(str(int(counter.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert counter.read_text() == "80"
    assert [p.name for p in folder.iterdir()] == ["counter"]


# -- where it cannot be -------------------------------------------------------------------------------
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*run: no claim can be kept there \(Not a directory\)"):
        claim(tmp_path / "file" / "run", "run", "run").__enter__()
    (tmp_path / FOLDER).write_text("a file of somebody's")
    with pytest.raises(InputError, match="no claim can be kept there"):
        claim(tmp_path, "run", "run").__enter__()
    assert (tmp_path / FOLDER).read_text() == "a file of somebody's"


def test_a_read_only_folder_needs_no_holder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="Permission denied"):  # one that can be written to, all the same
        claim(folder, "run", "run").__enter__()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with claim(folder, "run", "run") as held:
        held.check()
    assert list(folder.iterdir()) == []


def test_a_file_system_that_renames_no_directories_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(InputError, match="Operation not supported"):
        claim(folder, "run", "run").__enter__()
    assert list(folder.iterdir()) == []


def test_a_file_system_that_renames_onto_nothing_that_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows does."""
    rename = Path.rename

    def careful(self: Path, target: Path) -> Path:
        if target.exists():
            raise FileExistsError(17, "File exists")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", careful)
    (folder / FOLDER / "run").mkdir(parents=True)
    with claim(folder, "run", "run") as held:
        with pytest.raises(BusyError):
            claim(folder, "run", "run").__enter__()
        held.check()


def test_an_answer_that_the_network_lost_is_looked_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def forgetful(self: Path, target: Path) -> Path:
        rename(self, target)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "rename", forgetful)
    with claim(folder, "run", "run") as held:
        held.check()


def test_the_rights_of_the_folder_are_those_of_its_claims(folder: Path) -> None:
    """A colleague of the same group may take over."""
    folder.chmod(0o2775)
    with claim(folder, "run", "run") as held:
        modes = {path.stat().st_mode & 0o7777 for path in (held.place, held.place.parent)}
    assert modes == {0o2775}


# -- owners -------------------------------------------------------------------------------------------
@pytest.fixture
def here() -> Iterator[Owner]:
    yield Owner.here()


def test_an_owner_survives_the_way_through_text(here: Owner) -> None:
    assert Owner.parse(here.dump()) == here
    assert not here.is_gone()
    assert len({Owner.here().token for _ in range(9)}) == 9


@pytest.mark.parametrize("text", ["", "null", "[]", '{"pid": 1}', "[" * 100_000, '{"host": 1}', "host 12 abc"])
def test_anything_else_is_no_owner(text: str) -> None:
    assert Owner.parse(text) is None


def test_numbers_are_numbers_and_texts_are_texts(here: Owner) -> None:
    assert Owner.parse(replace(here, pid="7").dump()) is None  # type: ignore[arg-type]
    assert Owner.parse(replace(here, began=None).dump()) is None  # type: ignore[arg-type]


def test_of_another_kernel_nothing_is_known(here: Owner, dead: int) -> None:
    assert replace(here, pid=dead).is_gone()
    assert not replace(here, pid=dead, kernel="another").is_gone()
    assert replace(here, pid=10**30).is_gone()


def test_systems_without_proc(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert owners._began(os.getpid()) == ""
    assert owners._began(dead) is None
    assert owners._began(10**30) is None
