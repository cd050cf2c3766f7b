"""Finding a cgroup by path or container, in folders that stand for hierarchies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corelock import InvalidArgument, NoSuchTarget, Unsupported, cgroups
from corelock.export.fields import cgroup_fields
from corelock.model import Cgroup
from corelock.render.columns import cgroup_label

ID = "0123456789abcdef" * 4
OTHER = "01234567" + "f" * 56


@pytest.fixture()
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the list of mounts has as the hierarchy of version 2."""
    folder = tmp_path / "cgroup v2"
    folder.mkdir()
    mounted(monkeypatch, tmp_path, (folder, "/", "cgroup2"))
    return folder


def mounted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *mounts: tuple[Path, str, str]
) -> None:
    """Let there be these mounts, each a folder, the root that it shows, and its kind."""
    lines = ["22 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw"]
    for folder, root, kind in mounts:
        device = os.stat(folder).st_dev
        place = str(folder).replace(" ", "\\040")
        numbers = f"{os.major(device)}:{os.minor(device)}"
        lines.append(f"41 31 {numbers} {root} {place} rw,relatime shared:9 - {kind} none rw")
    file = tmp_path / "mountinfo"
    file.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(cgroups, "MOUNTS", str(file))


def make(top: Path, path: str) -> Path:
    folder = top / path.lstrip("/")
    folder.mkdir(parents=True)
    return folder


# --- by path ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    ["/a.slice/b c", "a.slice/b c", "/a.slice/b c/", "{top}/a.slice/b c", "{top}/a.slice/x"],
)
def test_by_its_path_or_its_directory(top: Path, given: str) -> None:
    folder = make(top, "a.slice/b c")
    (top / "a.slice" / "x").symlink_to(folder)
    found = cgroups.by_path(given.format(top=top))
    assert found == Cgroup("/a.slice/b c", str(folder), folder.stat().st_ino)
    assert cgroup_label(found) == "cgroup /a.slice/b c"


@pytest.mark.parametrize("given", ["/", "{top}", "{top}/"])
def test_the_root(top: Path, given: str) -> None:
    found = cgroups.by_path(given.format(top=top))
    assert (found.path, found.id) == ("/", top.stat().st_ino)


@pytest.mark.parametrize("given", ["/nope", "{top}/nope", "/usr", "/../a", "/a/../a", "."])
def test_none_at_the_path(top: Path, given: str) -> None:
    make(top, "a")
    with pytest.raises(NoSuchTarget, match="no cgroup of version 2 is at") as caught:
        cgroups.by_path(given.format(top=top))
    assert str(top) in caught.value.remedy


def test_a_file_is_none(top: Path) -> None:
    (top / "cgroup.procs").touch()
    with pytest.raises(NoSuchTarget):
        cgroups.by_path(str(top / "cgroup.procs"))


def test_an_empty_path(top: Path) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        cgroups.by_path("")


def test_a_name_that_is_not_utf_8(top: Path) -> None:
    """It is shown as threads' names are, and found and opened by its bytes."""
    folder = os.fsencode(top) + b"/f\xff"
    os.mkdir(folder)
    found = cgroups.by_path("/f\udcff")
    assert (found.path, os.fsencode(found.folder)) == ("/f\\xff", folder)
    assert cgroup_label(found) == "cgroup /f\\xff"
    assert cgroup_fields(found) == {"path": "/f\\xff", "id": found.id, "container": None}


def test_of_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two filesystems: what tells them apart is the device.
    one, two = Path("/dev/shm"), tmp_path
    assert one.stat().st_dev != two.stat().st_dev
    mounted(monkeypatch, tmp_path, (one, "/", "cgroup"), (two, "/", "cgroup2"))
    with pytest.raises(NoSuchTarget, match="/dev/shm is a cgroup of version 1") as caught:
        cgroups.by_path("/dev/shm")
    assert "0::" in caught.value.remedy


@pytest.mark.parametrize("find", [cgroups.by_path, cgroups.by_container])
def test_no_version_2(find: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, tmp_path, (tmp_path, "/", "cgroup"))
    with pytest.raises(Unsupported, match="no cgroup hierarchy of version 2") as caught:
        find("/a")  # type: ignore[operator]
    assert "mount -t cgroup2" in caught.value.remedy


def test_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "MOUNTS", str(tmp_path / "none"))
    with pytest.raises(Unsupported, match="/proc is not mounted"):
        cgroups.by_path("/a")


def test_a_mount_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container has it that is given its own cgroup without a namespace."""
    top = tmp_path / "cgroup"
    folder = make(top, "b")
    mounted(monkeypatch, tmp_path, (top, "/docker/x", "cgroup2"))
    expected = Cgroup("/docker/x/b", str(folder), folder.stat().st_ino)
    assert cgroups.by_path("/docker/x/b") == cgroups.by_path(str(folder)) == expected
    assert cgroups.by_path("/docker/x").folder == str(top)
    with pytest.raises(NoSuchTarget):
        cgroups.by_path("/docker/b")


def test_a_mount_from_outside_the_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dots stand for is not known: no cgroup of it is found by a path."""
    top = tmp_path / "cgroup"
    folder = make(top, "b")
    mounted(monkeypatch, tmp_path, (top, "/../..", "cgroup2"))
    with pytest.raises(NoSuchTarget):
        cgroups.by_path("/b")
    assert cgroups.by_path(str(folder)).path == "/../../b"


# --- by container -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{ID}",
        f"/system.slice/docker-{ID}.scope",
        f"/kubepods/burstable/pod6cbf/{ID}",
        f"/kubepods.slice/kubepods-pod6cbf.slice/cri-containerd-{ID}.scope",
        f"/kubepods.slice/kubepods-pod6cbf.slice/crio-{ID}.scope",
        f"/machine.slice/libpod-{ID}.scope",
        f"/libpod_parent/libpod-{ID}",
        f"/default/nerdctl-{ID}.scope",
    ],
)
def test_by_the_beginning_of_its_id(top: Path, path: str) -> None:
    folder = make(top, path)
    (folder / "init.scope").mkdir()
    make(top, f"/system.slice/docker-{OTHER}.scope")
    found = cgroups.by_container(ID[:9])
    assert found == Cgroup(path, str(folder), folder.stat().st_ino, ID)
    assert cgroups.by_container(ID) == found
    assert cgroup_label(found) == "container 0123456789ab"


@pytest.mark.parametrize("path", ["/lxc.payload.web", "/lxc/web"])
def test_lxc_has_names(top: Path, path: str) -> None:
    folder = make(top, path)
    for other in ("/lxc.payload.web2", "/lxc.monitor.web", "/lxc.pivot"):
        make(top, other)
    found = cgroups.by_container("web")
    assert (found.folder, found.container) == (str(folder), "web")
    assert cgroup_label(found) == "container web"


def test_the_monitor_is_not_the_container(top: Path) -> None:
    for runtime in ("libpod", "crio"):
        make(top, f"/machine.slice/{runtime}-conmon-{ID}.scope")
    with pytest.raises(NoSuchTarget, match="no container's id begins with 0123"):
        cgroups.by_container("0123")


def test_what_is_in_a_container_is_not_another_one(top: Path) -> None:
    """Docker in Docker: the outer one has them all."""
    make(top, f"/system.slice/docker-{ID}.scope/docker/{OTHER}")
    assert cgroups.by_container("01234567").container == ID


def test_several(top: Path) -> None:
    for name in (ID, OTHER):
        make(top, f"/docker/{name}")
    with pytest.raises(NoSuchTarget, match="several") as caught:
        cgroups.by_container("01234567")
    assert ID in caught.value.message
    assert OTHER in caught.value.message
    assert cgroups.by_container("01234567f").container == OTHER


def test_names_that_are_no_containers(top: Path) -> None:
    for name in (ID[:12], ID + "0", f"x{ID}", "system.slice", f"docker-{ID}.service"):
        make(top, f"/system.slice/{name}")
    with pytest.raises(NoSuchTarget, match="no container"):
        cgroups.by_container("0")


def test_an_empty_id(top: Path) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        cgroups.by_container("")
