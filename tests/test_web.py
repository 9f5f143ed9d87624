from __future__ import annotations

import inspect
import json
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from streams import HEIGHT, WIDTH, Scripted, block, picture, thing
from walks import make_walk

from stream.errors import OutputError, UsageError
from stream.live_run import Live
from stream.source import open_source
from stream.web import serve
from stream.web.app import make_app
from stream.web.gate import make_gate
from stream.web.server import address

HERE = "http://127.0.0.1:8000"
FEED = "ws://127.0.0.1:8000/feed"
OWN = {"origin": HERE}
TOKEN = "twelve letters or more"
RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture
def live() -> Scripted:
    return Scripted()


@contextmanager
def page(
    live: Scripted, folder: Path, *, host: str = "127.0.0.1", limit: int = 1 << 20
) -> Iterator[TestClient]:
    """A visitor's browser before the page of `live`."""
    recordings, uploads = folder / "recordings", folder / "uploads"
    recordings.mkdir()
    uploads.mkdir()
    token = None if host == "127.0.0.1" else TOKEN
    app = make_app(
        live.live,
        make_gate(host, 8000, token),
        recordings=recordings,
        uploads=uploads,
        upload_bytes=limit,
        change=("perceive.size=128", "fill.inpaint=false", "engine.name=eager", "look_ahead=0"),
    )
    with TestClient(app, base_url=HERE, headers=OWN, follow_redirects=False) as client:
        yield client


def test_the_stand_in_is_asked_as_the_real_one() -> None:
    for name in ("newer", "decide", "classes", "preset", "look_ahead", "reset", "record"):
        real, scripted = (inspect.signature(getattr(kind, name)) for kind in (Live, Scripted))
        assert [*real.parameters][: len(scripted.parameters)] == [*scripted.parameters], name
        extra = [*real.parameters.values()][len(scripted.parameters) :]
        assert all(each.default is not each.empty for each in extra), name


@pytest.fixture
def visitor(live: Scripted, tmp_path: Path) -> Generator[TestClient, None, None]:
    with page(live, tmp_path) as client:
        yield client


class Watch:
    """What arrives on one connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def news(self, kind: str) -> Any:
        """The next news of one kind."""
        while True:
            message = self.connection.receive()
            told = json.loads(message["text"]) if message.get("text") else {}
            if kind in told:
                return told[kind]

    def picture(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        """The next picture: its head, and the cleaned one and perhaps the one before as RGB."""
        while True:
            message = self.connection.receive()
            data = message.get("bytes")
            if data:
                break
        (length,) = struct.unpack("<I", data[:4])
        head = json.loads(data[4 : 4 + length])
        rest = data[4 + length :]
        parts = [part for part in (rest[: head["a"]], rest[head["a"] :]) if part]
        return head, [cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR_RGB) for part in parts]

    def say(self, **words: Any) -> None:
        self.connection.send_text(json.dumps(words))


def test_pictures_arrive_with_their_things(live: Scripted, visitor: TestClient) -> None:
    walker = thing(7, "person", block(40, 30, 32, 90), "remove", relation=0.12, reason="it passes by")
    with visitor.websocket_connect(FEED) as connection:
        watch = Watch(connection)
        assert "person" in watch.news("hello")["classes"]
        live.show(picture(BLUE), picture(RED), [walker])
        head, images = watch.picture()
        assert (head["w"], head["h"]) == (WIDTH, HEIGHT) and len(images) == 1
        assert np.abs(images[0].astype(int) - RED).max() < 12
        ((number, goes, rings),) = head["t"]
        assert (number, goes) == (7, 1)
        across, down = np.array(rings[0]).reshape(-1, 2).T
        assert across.min() == pytest.approx(1250, abs=40) and across.max() == pytest.approx(2250, abs=40)
        assert down.min() == pytest.approx(1667, abs=70) and down.max() == pytest.approx(6667, abs=70)
        (row,) = watch.news("things")
        assert row["label"] == "person" and row["action"] == "remove" and row["relation"] == 0.12
        assert row["reason"] == "it passes by" and row["here"]
        shown = visitor.get(f"/thing/{row['thumbnail']}")
        assert shown.headers["content-type"] == "image/jpeg"
        small = cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert small.shape[0] == small.shape[1] and np.abs(small.astype(int) - BLUE).max() < 12


def test_the_picture_before_comes_only_when_it_is_asked_for(live: Scripted, visitor: TestClient) -> None:
    with visitor.websocket_connect(FEED) as connection:
        watch = Watch(connection)
        live.show(picture(BLUE), picture(RED))
        head, images = watch.picture()
        assert len(images) == 1
        watch.say(ack=head["n"], compare=True)
        head, images = watch.picture()  # the same one again, although no new one came
        assert len(images) == 2 and np.abs(images[1].astype(int) - BLUE).max() < 12


def test_a_source_may_come_back_with_another_size(live: Scripted, visitor: TestClient) -> None:
    with visitor.websocket_connect(FEED) as connection:
        watch = Watch(connection)
        for wide, high, shown in ((320, 180, (320, 180)), (2560, 1440, (1280, 720)), (90, 160, (90, 160))):
            live.show(*[np.full((high, wide, 3), 128, np.uint8)] * 2)
            head, (image,) = watch.picture()
            assert (head["w"], head["h"]) == shown == image.shape[1::-1]
            watch.say(ack=head["n"])


def test_who_does_not_keep_up_gets_the_newest(live: Scripted, visitor: TestClient) -> None:
    with visitor.websocket_connect(FEED) as slow, visitor.websocket_connect(FEED) as quick:
        late, prompt = Watch(slow), Watch(quick)
        for number in range(6):
            live.show(picture(BLUE), picture(RED))
            head, _ = prompt.picture()
            assert head["n"] == number
            prompt.say(ack=number)
        first, second = late.picture()[0]["n"], late.picture()[0]["n"]
        assert first < second
        late.say(ack=second)
        assert late.picture()[0]["n"] == 5


def test_a_visitor_who_talks_nonsense_is_sent_away_and_others_are_not(
    live: Scripted, visitor: TestClient
) -> None:
    with visitor.websocket_connect(FEED) as good:
        for nonsense in ("not json", '{"ack": "x"}', '{"sudo": true}', "[" * 3000, '{"ack": true}'):
            with visitor.websocket_connect(FEED) as bad:
                bad.send_text(nonsense)
                while (message := bad.receive())["type"] != "websocket.close":
                    pass
                assert message["code"] == 1007
        with visitor.websocket_connect(FEED):
            pass  # leaves at once
        live.show(picture(BLUE), picture(RED))
        assert Watch(good).picture()[0]["n"] == 0


def test_there_is_room_for_eight_visitors(visitor: TestClient) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            Watch(stack.enter_context(visitor.websocket_connect(FEED))).news("hello")
        ninth = stack.enter_context(visitor.websocket_connect(FEED))
        with pytest.raises(WebSocketDisconnect) as closed:
            ninth.receive_text()
        assert closed.value.code == 1013


def test_a_wish_acts_and_everybody_sees_it(live: Scripted, visitor: TestClient) -> None:
    walker = thing(7, "person", block(40, 30, 32, 90), "remove")
    with visitor.websocket_connect(FEED) as one, visitor.websocket_connect(FEED) as other:
        live.show(picture(BLUE), picture(RED), [walker])
        assert Watch(one).news("things")[0]["word"] is None
        assert visitor.post("/wish/decide", json={"track": 7, "action": "keep"}).status_code == 204
        live.show(picture(BLUE), picture(BLUE), [walker])
        for connection in (one, other):
            while (row := Watch(connection).news("things")[0])["word"] is None:
                pass
            assert row["word"] == "keep" and row["action"] == "keep"
    asked = [
        ("classes", {"remove": ["car"], "keep": ["dog"]}, ("classes", ("car",), ("dog",))),
        ("preset", {"name": "tourist"}, ("preset", "tourist")),
        ("look-ahead", {"seconds": 0.5}, ("look_ahead", 0.5)),
        ("reset", {}, ("reset",)),
    ]
    for name, body, heard in asked:
        assert visitor.post(f"/wish/{name}", json=body).status_code == 204
        assert live.asked[-1] == heard


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("decide", b'{"track": 99, "action": "keep"}', 409),
        ("decide", b'{"track": 1, "action": "explode"}', 400),
        ("decide", b'{"track": 1}', 400),
        ("decide", b"\xff\xfe", 400),
        ("decide", b"[" * 9000, 400),
        ("classes", json.dumps({"remove": ["x" * 50], "keep": []}).encode(), 400),
        ("classes", json.dumps({"remove": ["a"] * 81, "keep": []}).encode(), 400),
        ("look-ahead", b'{"seconds": 1e9}', 400),
        ("look-ahead", b'{"seconds": NaN}', 400),
        ("record", b'{"on": true, "path": "/etc/passwd"}', 400),
        ("decide", b" " * 20_000, 413),
        ("format", b"{}", 404),
    ],
)
def test_what_cannot_be_wished_is_an_error(
    live: Scripted, visitor: TestClient, name: str, body: bytes, status: int
) -> None:
    answer = visitor.post(f"/wish/{name}", content=body)
    assert answer.status_code == status and answer.json()["error"]
    assert live.asked == []


def test_a_wish_without_end_is_cut_off(visitor: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            yield b" " * 1000

    assert visitor.post("/wish/reset", content=endless()).status_code == 413


def test_a_recording_is_named_here_and_can_be_downloaded(visitor: TestClient, tmp_path: Path) -> None:
    with visitor.websocket_connect(FEED) as connection:
        watch = Watch(connection)
        assert watch.news("status")["recordings"] == []
        assert visitor.post("/wish/record", json={"on": True}).status_code == 204
        (path,) = (tmp_path / "recordings").iterdir()
        while (told := watch.news("status"))["recording"] is None:
            pass
        assert told["recording"]["name"] == path.name
        assert visitor.get(f"/recording/{path.name}").status_code == 404, "it is not whole yet"
        visitor.post("/wish/record", json={"on": False})
        while not (told := watch.news("status"))["recordings"]:
            pass
        assert told["recordings"][0]["name"] == path.name and told["recording"] is None
    assert visitor.get(f"/recording/{path.name}").content == path.name.encode()
    (tmp_path / "recordings" / "other.mp4").write_bytes(b"private")
    (tmp_path / "secret").write_bytes(b"private")
    for name in ("other.mp4", "../secret", "..%2fsecret", "%2e%2e/secret", "/etc/passwd"):
        answer = visitor.get(f"/recording/{name}")
        assert answer.status_code == 404 and b"private" not in answer.content


def test_a_snapshot_is_the_picture_itself(live: Scripted, visitor: TestClient) -> None:
    assert visitor.get("/snapshot").status_code == 404
    chance = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    live.show(picture(BLUE), chance)
    data = np.frombuffer(visitor.get("/snapshot").content, np.uint8)
    assert (cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) == chance).all()


# ---- who may ask


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8000", HERE, 204),
        ("localhost:8000", "http://localhost:8000", 204),
        ("192.168.1.7:8000", "http://192.168.1.7:8000", 204),
        ("[::1]:8000", "http://[::1]:8000", 204),
        ("127.0.0.1:8000", "http://evil.example", 403),
        ("127.0.0.1:8000", "http://127.0.0.1:9000", 403),
        ("127.0.0.1:8000", "null", 403),
        ("127.0.0.1:8000", None, 403),
        ("evil.example:8000", "http://evil.example:8000", 421),
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example", 421),
        ("user@127.0.0.1:8000", "http://127.0.0.1:8000", 421),
        ("127.0.0.1:port", HERE, 421),
        ("", HERE, 421),
    ],
)
def test_requests_of_other_sites_are_refused(
    live: Scripted, tmp_path: Path, host: str, origin: str | None, status: int
) -> None:
    with page(live, tmp_path) as client:
        client.headers.pop("origin")
        headers = {"host": host} | ({} if origin is None else {"origin": origin})
        assert client.post("/wish/reset", json={}, headers=headers).status_code == status
        assert (live.asked == [("reset",)]) == (status == 204)
        if status != 204:
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(FEED, headers=headers):
                pass
        elif origin is not None:
            with client.websocket_connect(FEED, headers=headers) as connection:
                assert Watch(connection).news("hello")


def test_the_token_opens_the_page_and_nothing_else_does(live: Scripted, tmp_path: Path) -> None:
    with page(live, tmp_path, host="192.168.1.7") as client:
        live.show(picture(BLUE), picture(RED))
        assert client.get("/").headers["location"] == "/enter"
        assert "token" in client.get("/enter").text
        for wrong in ("", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?token={TOKEN[:-1]}"):
            answer = client.get(f"/{wrong}")
            assert answer.status_code == 303 and answer.headers["location"].startswith("/enter")
            assert "set-cookie" not in answer.headers
        for path in ("/snapshot", "/alive", "/thing/1-1.jpg", "/recording/x.mp4", "/clips/x/result"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.post("/wish/reset", json={}).status_code == 401
        assert client.post("/clips", content=b"x").status_code == 401
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(FEED):
            pass
        assert client.get("/snapshot", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        answer = client.get("/", params={"token": TOKEN})
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite" in cookie and TOKEN.replace(" ", "") not in cookie
        assert "In the picture" in client.get("/").text
        with client.websocket_connect(FEED) as connection:
            assert Watch(connection).picture()
        client.cookies.clear()
        assert client.post("/enter", data={"token": "wrong"}).headers["location"] == "/enter?wrong=1"
        assert "not the token" in client.get("/enter?wrong=1").text
        assert "not the token" not in client.get("/enter").text
        assert client.post("/enter", content=b"token=" + b"x" * 2000).status_code == 413
        assert client.post("/enter", data={"token": TOKEN}).headers["location"] == "/"
        assert client.get("/snapshot").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "camera.local"])
def test_an_address_that_others_reach_has_a_token(host: str) -> None:
    one, other = make_gate(host, 80, None), make_gate(host, 80, None)
    assert one.token and len(one.token) >= 20 and one.token != other.token
    assert make_gate("127.0.0.1", 80, None).token is None
    with pytest.raises(UsageError, match="12"):
        make_gate(host, 80, "short")


def test_the_address_that_is_told_opens_the_page() -> None:
    gate = make_gate("0.0.0.0", 80, "with spaces & more")
    told = urlsplit(address("0.0.0.0", 80, gate))
    assert told.hostname not in ("0.0.0.0", "") and gate.admits_host(Headers({"host": told.netloc}))
    assert parse_qs(told.query) == {"token": ["with spaces & more"]}
    assert address("::1", 80, make_gate("::1", 80, None)) == "http://[::1]:80/"


def test_the_page_has_nothing_from_elsewhere_and_no_script_inside(visitor: TestClient) -> None:
    answer = visitor.get("/")
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules and "unsafe" not in rules and "frame-ancestors 'none'" in rules
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin", "else a form's Origin is null"
    wanted = set(re.findall(r'(?:src|href)="(/page/[^"]+)"', answer.text))
    assert any(name.endswith(".js") for name in wanted) and any(name.endswith(".css") for name in wanted)
    for name in wanted:
        assert visitor.get(name).status_code == 200
    imported = re.findall(r'from "\./([^"]+)"', visitor.get("/page/page.js").text)
    texts = [answer.text, visitor.get("/enter").text]
    texts += [visitor.get(f"/page/{name}").text for name in (*imported, "page.css")]
    assert imported and not any(re.search(r"https?://(?!www\.w3\.org)", text) for text in texts)
    for text in texts[:2]:
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|<style", text)
    for name in ("/page/../app.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/"):
        assert visitor.get(name).status_code == 404


# ---- files that are sent


def state(connection: Any, *wanted: str, number: str | None = None) -> dict[str, Any]:
    """News of the first clip, or the one of this id, once it is in one of the states."""
    while True:
        clips = Watch(connection).news("clips")
        for clip in clips[:1] if number is None else clips:
            if clip["state"] in wanted and number in (None, clip["id"]):
                return dict(clip)


def test_a_clip_is_sent_cleaned_and_taken_back(live: Scripted, visitor: TestClient, tmp_path: Path) -> None:
    clip = make_walk(tmp_path / "walk.mkv", 8)
    with visitor.websocket_connect(FEED) as connection:
        answer = visitor.post("/clips?preset=tourist", content=clip.read_bytes())
        assert answer.status_code == 201
        assert visitor.post("/clips", content=b"another").status_code == 409
        done = state(connection, "done", "failed")
        assert done["state"] == "done" and done["frames"] == 8 and done["suffix"] == ".mkv"
        assert "output" not in done and str(tmp_path) not in json.dumps(done)
        live.show(picture(BLUE), picture(RED))
        assert Watch(connection).picture(), "the stream goes on"
        shown = visitor.get(f"/clips/{done['id']}/picture")
        assert cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_COLOR).shape[1] == 960
        result = visitor.get(f"/clips/{done['id']}/result")
        assert result.headers["content-disposition"] == "attachment"
        (tmp_path / "back.mkv").write_bytes(result.content)
        with open_source(tmp_path / "back.mkv") as source, open_source(clip) as original:
            assert [each.time for each in source] == [each.time for each in original]
        assert visitor.delete(f"/clips/{done['id']}").status_code == 204
        assert visitor.get(f"/clips/{done['id']}/result").status_code == 404
        assert list((tmp_path / "uploads").iterdir()) == []


def test_what_is_no_picture_is_refused_whatever_it_claims_to_be(visitor: TestClient, tmp_path: Path) -> None:
    secret = make_walk(tmp_path / "secret.mp4", 2)
    texts = {
        "noise": b"nothing" * 999,
        "playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode(),
        "list": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
        "page": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    }
    for data in texts.values():
        with visitor.websocket_connect(FEED) as connection:
            answer = visitor.post("/clips", content=data)
            assert answer.status_code == 201
            # The first news may be of the clip before.
            told = state(connection, "failed", "done", "cleaning", number=answer.json()["id"])
            assert told["state"] == "failed" and "no video" in told["error"], told
            assert str(tmp_path) not in json.dumps(told)
    assert not list((tmp_path / "uploads").glob("*/input*"))


def test_uploads_are_limited_by_what_they_claim_and_by_what_they_are(
    visitor: TestClient, tmp_path: Path
) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1 << 16
            yield bytes(1 << 16)

    claim = visitor.post("/clips", content=b"", headers={"content-length": str(5 << 30)})
    assert claim.status_code == 413 and "at most 1 MB" in claim.json()["error"]
    assert visitor.post("/clips", content=endless()).status_code == 413
    assert visitor.post("/clips", content=b"").status_code == 400
    assert visitor.post("/clips?preset=../x", content=b"x").status_code == 400
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_clip_can_be_stopped(visitor: TestClient, tmp_path: Path) -> None:
    clip = make_walk(tmp_path / "walk.mkv", 60)
    number = visitor.post("/clips", content=clip.read_bytes()).json()["id"]
    assert visitor.delete(f"/clips/{number}").status_code == 204
    assert list((tmp_path / "uploads").iterdir()) == []
    assert visitor.post("/clips", content=b"the next one").status_code == 201


# ---- the server itself


@contextmanager
def served(live: Scripted, folder: Path, **options: Any) -> Iterator[tuple[str, int]]:
    """The real server in a thread; yields the address it tells and the port."""
    told: list[str] = []
    ready, end = threading.Event(), threading.Event()

    def on_ready(address: str) -> None:
        told.append(address)
        ready.set()

    work = threading.Thread(
        target=lambda: serve(live.live, port=0, folder=folder, on_ready=on_ready, stop=end.is_set, **options)
    )
    work.start()
    try:
        assert ready.wait(20)
        yield told[0], int(re.findall(r":(\d+)/", told[0])[0])
    finally:
        end.set()
        work.join(10)
        assert not work.is_alive()


def ask(port: int, data: bytes) -> bytes:
    """What comes back for raw bytes, up to the end of the connection or a second of silence."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data)
        connection.settimeout(1)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
                if b"\r\n\r\n" in answer:
                    break
        except OSError:
            pass
        return answer


def test_the_server_outlives_junk(live: Scripted, tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    with served(live, tmp_path) as (address, port):
        assert address == f"http://127.0.0.1:{port}/"
        head = f"Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n".encode()
        claim = b"POST /clips HTTP/1.1\r\n" + head + b"Content-Length: 5368709120\r\n\r\n" + bytes(1000)
        assert b" 413 " in ask(port, claim).splitlines()[0]
        for number in range(200):
            junk = chance.bytes(200) + b"\r\n\r\n"
            kinds = (
                junk,
                b"GET /" + junk,
                b"GET / HTTP/1.1\r\n" + head + b"X: " + bytes(70_000) + b"\r\n\r\n",
                b"GET /feed HTTP/1.1\r\n" + head + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                b"POST /wish/reset HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + head + b"\r\n",
            )
            with (
                socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
                suppress(OSError),  # thrown out already
            ):
                connection.sendall(kinds[number % len(kinds)])
        answer = ask(port, b"GET / HTTP/1.1\r\n" + head + b"\r\n")
        assert b" 200 " in answer.splitlines()[0]
    assert live.asked == []


def test_the_port_must_be_free_and_the_folder_there(live: Scripted, tmp_path: Path) -> None:
    with served(live, tmp_path) as (_, port), pytest.raises(UsageError, match="cannot be served there"):
        serve(live.live, port=port, folder=tmp_path)
    with pytest.raises(OutputError, match="no such folder"):
        serve(live.live, port=0, folder=tmp_path / "nowhere")


def test_without_the_libraries_it_says_what_to_install(
    live: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("stream.web.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(UsageError) as error:
        serve(live.live, port=0, folder=tmp_path)
    assert "cleanplate[web]" in error.value.hint
    program = "import sys, stream.web; print('starlette' in sys.modules or 'uvicorn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
