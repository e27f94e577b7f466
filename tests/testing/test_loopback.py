"""The scripted service, the recorder and the switch that keeps tests off the network, spoken to by plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest
from hypothesis import given, strategies as st

from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.testing.offline import NetworkUsed, no_network
from abstractllm.testing.recording import Recorded, Recorder, in_order, load, save, without_keys

KEY = "sk-recorded-0123456789"


@contextlib.contextmanager
def connected(server):
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def ask(server, body=b"{}", path="/v1/x", **headers):
    """Return status, headers and body of one answer."""
    with connected(server) as connection:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def raw(server, request=b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", until=None):
    """Return everything that comes for a request until the connection ends, or until it ends in some bytes."""
    got = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as link:
        link.sendall(request)
        while piece := link.recv(2**16):
            got += piece
            if until and got.endswith(until):
                break
    return got


def test_replies_are_played_in_order_and_the_last_again():
    with LoopbackServer([Reply(body=b"one"), Reply(404, {"X-Id": "7"}, b"two")]) as server:
        assert ask(server)[2] == b"one"
        for _ in range(2):
            status, headers, body = ask(server)
            assert (status, headers["X-Id"], body) == (404, "7", b"two")


def test_a_function_sees_what_was_asked():
    def script(request):
        return Reply(body=json.dumps([request.method, request.path, request.body.decode()]).encode())

    with LoopbackServer(script) as server:
        assert json.loads(ask(server, b"hello", "/a?b=c")[2]) == ["POST", "/a?b=c", "hello"]


def test_requests_and_connections_are_counted():
    with LoopbackServer([Reply(body=b"x")]) as server, connected(server) as connection:
        for _ in range(3):
            connection.request("POST", "/", iter([b"in ", b"chunks"]), encode_chunked=True)
            assert connection.getresponse().read() == b"x"
        assert [request.body for request in server.requests] == [b"in chunks"] * 3
        assert [request.connection for request in server.requests] == [1, 1, 1]
        assert ask(server)[2] == b"x"
        assert server.connections == 2


def test_keys_are_in_no_repr_and_no_export():
    with LoopbackServer([Reply()]) as server:
        ask(server, Authorization=f"Bearer {KEY}", Other="seen")
    request = server.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(request)
    exported = request.exported()
    assert KEY not in str(exported.headers)
    assert exported.headers["other"] == "seen"


def test_chunks_are_sent_as_they_are():
    with LoopbackServer([Reply(chunks=[b"ab", b"c", b"def"])]) as server:
        got = raw(server, until=b"\r\n0\r\n\r\n")
    assert got.partition(b"\r\n\r\n")[2] == b"2\r\nab\r\n1\r\nc\r\n3\r\ndef\r\n0\r\n\r\n"


def test_a_drip_sends_small_chunks():
    with LoopbackServer([Reply(body=b"abcde", drip=2)]) as server:
        assert ask(server)[2] == b"abcde"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(body=b"abcdef", cut_after=4), b"Content-Length: 6\r\n\r\nabcd"),
        (Reply(body=b"abcdef", cut_after=0), b"Content-Length: 6\r\n\r\n"),
        (Reply(chunks=[b"abc", b"def"], cut_after=4), b"3\r\nabc\r\n1\r\nd\r\n"),
        (Reply(chunks=[b"abc"], ends=False), b"3\r\nabc\r\n"),
        (Reply.hang_up(), b""),
    ],
)
def test_cuts(reply, expected):
    with LoopbackServer([reply]) as server:
        got = raw(server)
    assert got.endswith(expected)
    assert bool(got) == bool(expected)


def test_a_reset():
    gate = Gate()
    with LoopbackServer([Reply(chunks=[b"abc", gate], resets=True)]) as server, connected(server) as connection:
        connection.request("POST", "/")
        answer = connection.getresponse()
        assert answer.read(3) == b"abc"
        gate.open()
        with pytest.raises(ConnectionResetError):
            answer.read()


def test_a_gate_holds_the_answer():
    gate = Gate()
    with LoopbackServer([Reply(chunks=[b"before", gate, b"after"])]) as server, connected(server) as connection:
        connection.request("POST", "/")
        answer = connection.getresponse()
        assert answer.read(6) == b"before"
        assert gate.reached.wait(20)
        gate.open()
        assert answer.read() == b"after"


@pytest.mark.parametrize("reply", [Reply(chunks=[b"x"], stalls=True), Reply(chunks=[b"x", Gate()])])
def test_a_client_that_leaves_is_seen(reply):
    with LoopbackServer([reply]) as server:
        with connected(server) as connection:
            connection.request("POST", "/")
            assert connection.getresponse().read(1) == b"x"
            assert not server.requests[0].left.is_set()
        assert server.requests[0].left.wait(20)


def test_an_answered_client_has_not_left():
    with LoopbackServer([Reply(body=b"x")]) as server:
        ask(server)
    assert not server.requests[0].left.is_set()


def test_a_redirect():
    with LoopbackServer([Reply.redirect("http://elsewhere.invalid/", 308)]) as server:
        status, headers, _ = ask(server)
    assert (status, headers["Location"]) == (308, "http://elsewhere.invalid/")


def test_a_long_line_is_as_long_as_it_says():
    with LoopbackServer([Reply.long_line(10**6)]) as server:
        body = ask(server)[2]
    assert len(body) >= 10**6
    assert b"\n" not in body


def test_a_server_that_does_not_read():
    with LoopbackServer([Reply()], reads=False) as server, socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        link.settimeout(0.1)
        with pytest.raises(TimeoutError):
            link.sendall(b"x" * 2**26)
        assert server.requests[0].body == b""


def test_tls_gets_a_refusal_in_plain_text():
    with LoopbackServer([Reply()]) as server:
        assert raw(server, b"\x16\x03\x01\x02\x00").startswith(b"HTTP/1.1 400 ")
    assert server.requests == []


def test_many_servers_at_once_end_their_threads():
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(LoopbackServer([Reply(body=b"x")])) for _ in range(5)]
        assert len({server.port for server in servers}) == 5
        assert all(ask(server)[2] == b"x" for server in servers)
    assert threading.active_count() == before
    servers[0].close()


# Recording.


def test_an_answer_is_recorded_and_played_again_chunk_by_chunk(tmp_path):
    chunks = [b"data: one\n\n", b"da", b"ta: two\n\n", f"key {KEY}".encode()]
    path = tmp_path / "answers.json"
    headers = {"Content-Type": "text/event-stream", "Set-Cookie": "who=me"}
    with LoopbackServer([Reply(200, headers, chunks=chunks), Reply(500, body=b"no")]) as service:
        with Recorder(service.url + "/base") as recorder:
            assert ask(recorder, b"{}", "/v1/x", Authorization=f"Bearer {KEY}")[2] == b"".join(chunks)
            assert ask(recorder)[0] == 500
        assert [request.path for request in service.requests] == ["/base/v1/x"] * 2
        assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"
    save(path, recorder.recorded)
    assert KEY not in path.read_text()
    first, second = load(path)
    assert KEY.encode() not in b"".join(first.chunks)
    assert first.chunks == (*chunks[:3], b"key " + b"*" * len(KEY))
    assert first.headers["authorization"] == "(hidden)"
    assert first.answer_headers["set-cookie"] == "(hidden)"
    assert (first.whole, first.body, second.status) == (True, b"{}", 500)
    with LoopbackServer(in_order([first, second])) as again:
        status, headers, body = ask(again)
        assert (status, headers["content-type"], body) == (200, "text/event-stream", b"".join(first.chunks))
        assert ask(again)[0] == 500


def test_a_cut_answer_is_recorded_and_played_as_cut(tmp_path):
    broken = pytest.raises((http.client.IncompleteRead, ConnectionError))
    with LoopbackServer([Reply(chunks=[b"abc"], ends=False)]) as service, Recorder(service.url) as recorder, broken:
        ask(recorder)
    save(tmp_path / "cut.json", recorder.recorded)
    found = load(tmp_path / "cut.json")
    assert [(one.chunks, one.whole) for one in found] == [((b"abc",), False)]
    with LoopbackServer(in_order(found)) as again, pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(again)


@given(st.lists(st.binary(max_size=6)), st.integers(0, 20))
def test_scrubbing_keeps_the_sizes_of_chunks(chunks, place):
    data = b"".join(chunks)
    whole = data[:place] + KEY.encode() + data[place:]
    cut = [whole[start : start + 5] for start in range(0, len(whole), 5)]
    recorded = Recorded("POST", "/", {"X-API-Key": KEY}, b"", 200, {}, tuple(cut))
    clean = without_keys(recorded)
    assert [len(chunk) for chunk in clean.chunks] == [len(chunk) for chunk in cut]
    assert KEY.encode() not in b"".join(clean.chunks)
    assert KEY not in str(clean.headers)


# Staying off the network.

ELSEWHERE = ("192.0.2.1", 9)  # set aside for documentation, RFC 5737


def test_no_network_lets_this_machine_through():
    with no_network(), LoopbackServer([Reply(body=b"x")]) as server:
        assert ask(server)[2] == b"x"
        with socket.create_connection(("localhost", server.port), timeout=20):
            pass


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_no_network_stops_everything_else(kind):
    with no_network(), socket.socket(socket.AF_INET, kind) as link:
        link.setblocking(False)
        with pytest.raises(NetworkUsed, match=r"192\.0\.2\.1"):
            link.connect(ELSEWHERE)
        with pytest.raises(NetworkUsed):
            link.connect_ex(ELSEWHERE)
        if kind == socket.SOCK_DGRAM:
            with pytest.raises(NetworkUsed):
                link.sendto(b"x", ELSEWHERE)


def test_no_network_stops_names():
    with no_network():
        with pytest.raises(NetworkUsed):
            socket.getaddrinfo("service.invalid", 443)
        with pytest.raises(NetworkUsed):
            socket.gethostbyname("service.invalid")


def test_no_network_stops_event_loops_and_other_threads():
    async def connect():
        await asyncio.open_connection(*ELSEWHERE)

    with no_network(), pytest.raises(NetworkUsed):
        asyncio.run(connect())
    caught = []

    def other():
        try:
            socket.create_connection(ELSEWHERE, timeout=0.01)
        except NetworkUsed as error:
            caught.append(error)

    with no_network():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_no_network_ends_and_may_be_nested(monkeypatch):
    with no_network(), no_network():
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(ELSEWHERE)  # of a datagram socket: nothing is sent
        with no_network(), pytest.raises(NetworkUsed):
            link.connect(ELSEWHERE)
        link.connect(ELSEWHERE)
