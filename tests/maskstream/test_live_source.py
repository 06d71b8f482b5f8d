"""Live sources against a real HTTP camera that is killed, restarted, silenced and changed in mid-stream."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from cameras import SHADES, Camera, picture, shade

from maskstream.errors import VideoError
from maskstream.live_source import LiveSettings, _StreamClock
from maskstream.video import FrameSource, open_source

QUICK = LiveSettings(
    open_seconds=5.0, stall_seconds=1.0, give_up_seconds=10.0, first_pause_seconds=0.05, longest_pause_seconds=0.2
)
IMPATIENT = replace(QUICK, give_up_seconds=0.3)


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.stop()


def take(source: FrameSource, count: int) -> list[tuple[np.ndarray, float]]:
    return list(itertools.islice(source, count))


def test_newest_frame_is_given_and_the_others_are_counted(camera: Camera) -> None:
    with open_source(camera.url(), QUICK) as source:
        assert (source.live, source.num_frames, source.size) == (True, None, (48, 64))
        take(source, 1)
        time.sleep(0.5)
        sent = camera.sent
        (frame, pts), (_, later) = take(source, 2)
        late = (shade(sent - 1) - int(frame.mean())) % (2 * SHADES)
        assert min(late, 2 * SHADES - late) <= 24  # the oldest that was not taken would be twice as late
        assert 10 <= source.dropped <= camera.sent
        assert pts < later
        assert time.perf_counter() - source.arrived < 5


def test_times_are_those_of_arrival_where_the_stream_has_none(camera: Camera) -> None:
    """FFmpeg numbers bare JPEGs as if 25 came a second; this camera sends 50."""
    with open_source(camera.url(), QUICK) as source:
        began, (_, first) = time.perf_counter(), take(source, 1)[0]
        last = take(source, 25)[-1][1]
        assert last - first == pytest.approx(time.perf_counter() - began, abs=0.35)


def test_what_came_before_anybody_asked_is_no_drop(camera: Camera) -> None:
    with open_source(camera.url(), QUICK) as source:
        while source.dropped < 20:
            time.sleep(0.01)
        take(source, 1)
        assert source.dropped < 20


def test_camera_that_is_restarted_is_opened_again(camera: Camera) -> None:
    said: list[str] = []
    with open_source(camera.url(), QUICK, said.append) as source:
        before = take(source, 3)[-1][1]
        camera.stop()
        threading.Timer(0.5, camera.start).start()
        began = time.perf_counter()
        after = [pts for _, pts in take(source, 10)]
        assert 0.3 < time.perf_counter() - began < 20
        assert source.losses == 1
    assert after == sorted(after)
    assert after[-1] - before > 0.3  # the break counts in the stream's time
    assert [text.partition(" (")[0].partition(" after")[0].rpartition(": ")[2] for text in said] == ["lost", "back"]
    assert said[0].startswith(f"{camera.url()}: lost (")


def test_silence_is_a_loss(camera: Camera) -> None:
    said: list[str] = []
    with open_source(camera.url(), QUICK, said.append) as source:
        take(source, 2)
        camera.silence()
        threading.Timer(1.5, camera._silent.clear).start()
        while source.losses < 1:
            take(source, 1)
        take(source, 5)
    assert "lost (no picture for 1 s); trying again for 10 s" in said[0]
    assert len(camera.requests) >= 2


def test_camera_that_stays_away_is_given_up_by_name(camera: Camera) -> None:
    with open_source(camera.url(login="admin:secret@"), IMPATIENT) as source:
        take(source, 1)
        camera.stop()
        with pytest.raises(VideoError, match=rf"^{camera.url()}: lost for 0 s \(.*is the camera on") as caught:
            take(source, 1000)
        assert "secret" not in str(caught.value)


def test_without_patience_a_loss_is_an_error_at_once(camera: Camera) -> None:
    said: list[str] = []
    with open_source(camera.url(), replace(QUICK, give_up_seconds=0.0), said.append) as source:
        take(source, 1)
        camera.stop()
        with pytest.raises(VideoError, match="lost for 0 s"):
            take(source, 1000)
    assert said == []


def test_password_is_in_no_name_and_no_message(camera: Camera) -> None:
    said: list[str] = []
    with open_source(camera.url("/mjpeg?token=hush", "admin:secret@"), QUICK, said.append) as source:
        assert source.name == camera.url()
        take(source, 1)
        camera.stop()
        threading.Timer(0.2, camera.start).start()
        take(source, 5)
    assert camera.requests[0] == "/mjpeg?token=hush"  # but the camera got it
    assert len(said) == 2
    assert not any(word in text for word in ("secret", "hush", "admin") for text in said)


@pytest.mark.parametrize("address", ["http://me:secret@127.0.0.1:9/a?token=secret", "rtsp://me:secret@127.0.0.1:9/a"])
def test_password_is_not_in_the_error_of_a_camera_that_is_not_there(address: str) -> None:
    with pytest.raises(VideoError, match=r"127\.0\.0\.1:9/a: not a readable video") as caught:
        open_source(address, QUICK)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None  # nor in a traceback
    assert caught.value.__suppress_context__


def restarted(camera: Camera, size: tuple[int, int]) -> None:
    camera.stop()
    camera.size = size
    camera.start()


def test_another_size_of_the_same_shape_is_scaled(camera: Camera) -> None:
    said: list[str] = []
    with open_source(camera.url(), QUICK, said.append) as source:
        take(source, 2)
        restarted(camera, (96, 128))
        frames = [frame for frame, _ in take(source, 60)]
        assert {frame.shape for frame in frames} == {(48, 64, 3)}
        assert len(camera.requests) == 2
    assert sum("it is 128x96 now and was 64x48; frames are scaled to 64x48" in text for text in said) == 1


def test_another_shape_is_an_error_that_says_so(camera: Camera) -> None:
    with open_source(camera.url(), QUICK) as source:
        take(source, 2)
        restarted(camera, (64, 64))
        with pytest.raises(VideoError, match="it is 64x64 now and was 64x48, another shape"):
            take(source, 200)


def test_transport_stream_keeps_its_own_times_over_connections(camera: Camera) -> None:
    with open_source(camera.url("/ts"), QUICK) as source:
        assert (source.live, source.frames_per_second) == (True, 25.0)
        while source.losses < 2:
            times = [pts for _, pts in take(source, 3)]
            assert times == sorted(times)
    assert len(camera.requests) >= 2


def test_address_that_gives_no_picture_is_refused_at_once(camera: Camera) -> None:
    camera.silence()
    began = time.perf_counter()
    with pytest.raises(VideoError, match=r"not a readable video|no picture in it"):
        open_source(camera.url(), replace(QUICK, open_seconds=0.5))
    assert time.perf_counter() - began < 20


def test_closing_ends_the_thread_and_the_frames(camera: Camera) -> None:
    source = open_source(camera.url(), QUICK)
    frames = iter(source)
    next(frames)
    source.close()
    assert [thread for thread in threading.enumerate() if thread.name == "maskstream-live"] == []
    rest = list(frames)
    assert len(rest) <= 1  # the one that was there already


def test_clock_goes_on_where_a_new_connection_starts_anew() -> None:
    clock = _StreamClock()
    assert clock.at(100.0, now=1000.0) == 100.0  # its own times, wherever they begin
    assert clock.at(100.5, now=1000.4) == 100.5
    clock.restart()
    assert clock.at(0.0, now=1003.4) == pytest.approx(103.5)  # three seconds without it
    assert clock.at(0.5, now=1003.9) == pytest.approx(104.0)


def test_clock_that_ran_on_through_the_break_is_kept() -> None:
    clock = _StreamClock()
    clock.at(100.0, now=0.0)
    clock.restart()
    assert clock.at(103.2, now=3.0) == 103.2


def test_clock_never_runs_back_and_survives_being_set() -> None:
    clock = _StreamClock()
    clock.at(50.0, now=0.0)
    assert clock.at(49.5, now=0.1) == 50.0  # a late picture
    assert clock.at(7200.0, now=0.2) == pytest.approx(50.1)  # the camera heard of daylight saving time
    assert clock.at(7201.0, now=1.2) == pytest.approx(51.1)
    assert clock.at(3.0, now=2.2) == pytest.approx(52.1)


def test_burst_after_a_slow_line_keeps_its_times() -> None:
    clock = _StreamClock()
    clock.at(10.0, now=0.0)
    assert [clock.at(10.0 + step, now=5.0) for step in (1.0, 2.0, 8.0)] == [11.0, 12.0, 18.0]


def test_recording_behind_an_address_is_read_frame_by_frame(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, (48, 64)), format="rgb24")))
        container.mux(stream.encode())
    folder = partial(QuietFiles, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with open_source(f"http://127.0.0.1:{server.server_port}/clip.mkv?key=hush", QUICK) as source:
            assert (source.live, source.name) == (False, f"http://127.0.0.1:{server.server_port}/clip.mkv")
            time.sleep(0.1)
            assert len(list(source)) == 30
        server.shutdown()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


def test_damaged_pictures_are_skipped(camera: Camera) -> None:
    """A third of each transport stream is noise; the connection holds."""
    said: list[str] = []
    with open_source(camera.url("/ts/damaged"), QUICK, said.append) as source:
        frames = take(source, 5)
    assert {frame.shape for frame, _ in frames} == {(48, 64, 3)}
    assert not any("another shape" in text for text in said)
