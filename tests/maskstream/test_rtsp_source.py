"""A camera that speaks RTSP and wants a password: read, lost, found again, and its password told to nobody else."""

import itertools
import threading
from collections.abc import Iterator

import pytest
from rtsp_camera import RtspCamera

from maskstream.errors import VideoError
from maskstream.live_source import LiveSettings
from maskstream.video import open_source

QUICK = LiveSettings(stall_seconds=2.0, first_pause_seconds=0.05, longest_pause_seconds=0.2)


@pytest.fixture
def camera() -> Iterator[RtspCamera]:
    camera = RtspCamera("me", "secret")
    yield camera
    camera.stop()


def test_camera_is_read_and_opened_again(camera: RtspCamera) -> None:
    said: list[str] = []
    with open_source(f"rtsp://me:secret@127.0.0.1:{camera.port}/1?token=hush", QUICK, said.append) as source:
        assert (source.name, source.live) == (f"rtsp://127.0.0.1:{camera.port}/1", True)
        assert (source.size, source.frames_per_second) == ((48, 64), 25.0)
        before = [pts for _, pts in itertools.islice(source, 5)]
        camera.stop()

        def plug_in() -> None:
            camera.playing.set()
            camera.start(camera.port)

        threading.Timer(0.3, plug_in).start()
        while source.losses == 0:
            next(iter(source))
        after = [pts for _, pts in itertools.islice(source, 5)]
    times = [*before, *after]
    assert times == sorted(times)
    assert camera.plays == 2
    assert [word in text for text, word in zip(said, ("lost (", "back after"), strict=True)] == [True, True]
    assert not any(word in text for text in said for word in ("secret", "hush"))


def test_wrong_password_is_said_without_it(camera: RtspCamera) -> None:
    with pytest.raises(VideoError, match=r"/1: not a readable video .*(401|[Aa]uthori)") as caught:
        open_source(f"rtsp://me:wrong@127.0.0.1:{camera.port}/1", QUICK)
    assert "wrong" not in str(caught.value)
    assert camera.refusals > 0
