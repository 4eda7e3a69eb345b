import io
import os
import tarfile
from pathlib import Path

import pytest

from noisereel.data.layouts.detect import listed
from noisereel.data.layouts.tar import scanned_members
from noisereel.data.media import Section


def made(path: Path, members: dict[str, bytes], twice: tuple[str, ...] = ()) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in (*members, *twice):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            tar.addfile(info, io.BytesIO(members[name]))
    return path


def test_members_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    members = {
        "/abs/a.mp4": b"1", "../b.mp4": b"2", "c.mp4": b"3", "c.txt": b" three \n", "d.txt": b"alone",
        "e.json": b"{", "e.gif": b"5",
        "f.cls": b"6", "g/h.one.mp4": b"7", "g/h.json": b'{"caption": ["seven", "or 7"]}',
    }  # fmt: skip
    listing = listed(made(tmp_path / "a.tar", members, twice=("c.mp4",)))
    assert [(item.name, item.caption) for item in listing.items] == [("c", "three"), ("g/h", "seven")]
    reasons = {one.name.split(":", 1)[1]: one.reason for one in listing.skipped}
    assert reasons.pop("e").startswith("its caption cannot be read: ")
    assert reasons == {
        "/abs/a.mp4": "its path leads out of the tar",
        "../b.mp4": "its path leads out of the tar",
        "c.mp4": "there is another of the same name before it",
        "d": "it has a caption and no video or image",
        "f.cls": "members that end in .cls are not read",
    }


def test_a_member_is_read_where_it_lies(tmp_path: Path) -> None:
    made(tmp_path / "a.tar", {"a.mp4": bytes(range(200)), "b.mp4": b"x"})
    member = next(scanned_members(tmp_path / "a.tar"))
    section = Section(path=tmp_path / "a.tar", name=member.name, offset=member.offset, size=member.size)
    with section.open() as file:
        assert file.read() == bytes(range(200))
        assert file.read(1) == b""
        assert file.seek(-5, os.SEEK_END) == 195
        assert file.read(100) == bytes(range(195, 200))
        assert file.seek(10) == 10
        assert file.seek(2, os.SEEK_CUR) == 12
        assert file.read(2) == bytes([12, 13])


def test_damaged_tars_and_stale_indices_are_named(tmp_path: Path) -> None:
    whole = made(tmp_path / "a.tar", {"a.mp4": b"1" * 3000, "b.mp4": b"2" * 3000}).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:5000])
    (tmp_path / "c.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "d.tar").write_bytes(whole)
    (tmp_path / "d.idx").write_text("v1.2 1\nmp4 512 3000 z.mp4\n")
    (tmp_path / "e.tar").write_bytes(whole)
    (tmp_path / "e.idx").write_text("v1.1 1\n512 3000\n")
    listing = listed(tmp_path)
    assert [item.name for item in listing.items] == ["a.tar:a", "a.tar:b"]
    reasons = {Path(one.name).name: one.reason for one in listing.skipped}
    assert "its last member is cut off" in reasons["b.tar"] or "unexpected end" in reasons["b.tar"]
    assert reasons["c.tar"].startswith("this tar cannot be read: ")
    assert "d.idx says that z.mp4 is at 512, where it is not: remove the index" in reasons["d.tar"]
    assert "e.idx begins with 'v1.1 1': only v1.2 names its members" in reasons["e.tar"]


@pytest.mark.parametrize("name", ["empty.tar"])
def test_an_empty_tar_holds_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    listing = listed(tmp_path / name)
    assert not listing.items
    assert len(listing.skipped) == 1
