"""Files from the web: which addresses are asked, that nothing else is, and how much is taken. No network is used."""

from __future__ import annotations

import asyncio
import io
import ipaddress
from contextlib import contextmanager

import pytest
from hypothesis import example, given, strategies as st
from PIL import Image

import abstractllm
from abstractllm.errors import FileProcessingError, ImageProcessingError, InvalidParameterError
from abstractllm.providers.http import Fetcher
from abstractllm.providers.http.addresses import objection
from abstractllm.providers.http.fetching import _checked, _redirected, system_resolver
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import DocumentPart, ImagePart

HOME = ("127.0.0.1/32",)


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()
IMAGE = Reply(body=PNG, headers={"Content-Type": "text/plain"})


class Names:
    """A resolver that knows some names, and counts what it is asked. A list of lists is answered in order."""

    def __init__(self, **names):
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append((host, port))
        found = self.names.get(host)
        if found is None:
            raise OSError(f"{host} is not known")
        return found.pop(0) if isinstance(found[0], list) else found


@contextmanager
def serving(*replies, **settings):
    """Yield a server, its port, and a fetcher that knows it as images.test and may ask it."""
    script = replies[0] if callable(replies[0]) else replies
    with LoopbackServer(script) as server:
        names = Names(images_test=["127.0.0.1"])
        port = server.url.rpartition(":")[2]
        yield server, port, Fetcher(**{"resolve": names, "allowed": HOME, **settings})


def fetched(url, fetcher):
    return abstractllm.fetch_file(url, fetcher)


def refused(url, fetcher, message, error=FileProcessingError):
    with pytest.raises(error, match=message) as caught:
        fetched(url, fetcher)
    assert caught.value.path == url
    return str(caught.value)


# Addresses.


def embedded(address, prefix):
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(ipaddress.IPv4Address(address))))


NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1"),
    *("192.88.99.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "fe80::1"),
    *("fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "3fff::1"),
    *("2001::1", "2002:7f00:1::", "64:ff9b:1::1", "100::1", "5f00::1", "4000::1", "localhost", "", "127.1", "1"),
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_objected_to(address):
    assert objection(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_one_is_not(address):
    assert objection(address) is None


SPECIAL = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
]
special_v4 = st.sampled_from(SPECIAL).flatmap(lambda network: st.ip_addresses(network=network))


@given(special_v4)
def test_nothing_of_a_special_network_is_public_however_it_is_written(address):
    assert objection(str(address))
    for prefix in ("::ffff:0:0", "64:ff9b::", "::"):
        assert objection(embedded(address, prefix))
    assert objection(str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))))


@given(st.ip_addresses())
@example(ipaddress.ip_address("2001:4860::8888"))
def test_what_python_holds_for_special_is_never_public(address):
    carried = getattr(address, "ipv4_mapped", None) or address
    if objection(str(address)) is None and carried not in ipaddress.ip_network("64:ff9b::/96"):
        assert carried.is_global
        assert not carried.is_multicast
        assert not carried.is_reserved
        assert not carried.is_private


@given(st.ip_addresses(v=4))
def test_what_is_allowed_is_not_objected_to(address):
    own = ipaddress.ip_network(f"{address}/32")
    assert objection(str(address), [own]) is None
    assert objection(embedded(address, "::ffff:0:0"), [own]) is None
    assert objection("127.0.0.1", [own]) or str(address) == "127.0.0.1"


def test_what_is_no_network_cannot_be_allowed():
    with pytest.raises(InvalidParameterError, match="no network"):
        Fetcher(allowed=("10.0.0.0/40",))


# Fetching.


def test_an_image_by_its_content_whatever_the_server_calls_it():
    with serving(IMAGE) as (server, port, fetcher):
        part = fetched(f"http://images.test:{port}/a/cat?size=1#top", fetcher)
    assert part == ImagePart(PNG, "image/png", "cat")
    (request,) = server.requests
    assert (request.method, request.path, request.headers["host"]) == ("GET", "/a/cat?size=1", f"images.test:{port}")
    assert request.headers["accept-encoding"] == "identity"
    assert not {"cookie", "authorization", "referer"} & set(request.headers)
    assert fetcher.resolve.asked == [("images.test", int(port))]


async def test_a_pdf_in_async_code():
    with serving(Reply(body=b"%PDF-1.7 x")) as (_, port, fetcher):
        part = await abstractllm.fetch_file_async(f"http://images.test:{port}/paper.pdf", fetcher)
    assert part == DocumentPart(b"%PDF-1.7 x", "application/pdf", "paper.pdf")


def test_other_content_and_broken_images_are_refused():
    replies = [Reply(body=b"<html>Sign in</html>"), Reply(body=PNG[:40]), Reply(404), Reply(500, body=PNG)]
    with serving(*replies) as (_, port, fetcher):
        url = f"http://images.test:{port}/cat.png"
        refused(url, fetcher, "neither an image")
        refused(url, fetcher, "cannot be decoded", ImageProcessingError)
        refused(url, fetcher, "status 404")
        refused(url, fetcher, "status 500")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_this_machine_is_never_asked(host):
    with LoopbackServer([IMAGE]) as server:
        port = server.url.rpartition(":")[2]
        refused(f"http://{host}:{port}/cat.png", Fetcher(), "loopback|no plain address")
    assert server.connections == 0


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::1", "1.1.1.1"], ["1.1.1.1", "::ffff:10.0.0.1"], ["fe80::1%1"]]
)
def test_a_name_with_one_address_that_is_not_public_is_refused(addresses):
    with LoopbackServer([IMAGE]) as server:
        fetcher = Fetcher(resolve=Names(evil_test=addresses))
        port = server.url.rpartition(":")[2]
        message = refused(f"http://evil.test:{port}/cat.png", fetcher, "only the public internet is fetched from")
        assert not any(address in message for address in addresses)
    assert server.connections == 0


def test_a_name_that_is_answered_otherwise_the_next_time_is_asked_for_but_once():
    with LoopbackServer([IMAGE]) as meant, LoopbackServer([Reply(body=b"secret")]) as secret:
        names = Names(images_test=[["127.0.0.1"], ["127.0.0.2"]])
        port = meant.url.rpartition(":")[2]
        part = fetched(f"http://images.test:{port}/", Fetcher(resolve=names, allowed=HOME))
    assert part.data == PNG
    assert len(names.asked) == 1
    assert secret.connections == 0


def test_the_connection_goes_to_the_address_that_was_judged():
    """The name has a real meaning for the system, this machine; the resolver's answer alone counts."""
    with LoopbackServer([IMAGE]) as server:
        port = server.url.rpartition(":")[2]
        names = Names(localhost=["127.0.0.2"])  # where nobody listens
        refused(f"http://localhost:{port}/", Fetcher(resolve=names, allowed=("127.0.0.2/32",)), "cannot be fetched")
    assert server.connections == 0


def test_proxies_are_not_used(monkeypatch):
    with serving(IMAGE) as (server, port, fetcher), LoopbackServer([IMAGE]) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert fetched(f"http://images.test:{port}/", fetcher).data == PNG
    assert (server.connections, proxy.connections) == (1, 0)


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(status):
    with serving(Reply.redirect("/b/dog.png", status), IMAGE) as (server, port, fetcher):
        part = fetched(f"http://images.test:{port}/cat.png", fetcher)
    assert (part.data, part.name) == (PNG, "cat.png")
    assert [request.path for request in server.requests] == ["/cat.png", "/b/dog.png"]
    assert len(fetcher.resolve.asked) == 2


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://10.0.0.1/", "private"),
        ("http://inside.test/", "private"),
        ("//[fd00:ec2::254]/", "private"),
        ("http://unknown.test/", "cannot be resolved"),
        ("file:///etc/passwd", "no http or https"),
        ("gopher://images.test/", "no http or https"),
        ("http://user:pass@images.test/", "user or a password"),
        ("http://images.test:99999/", "not valid"),
        ("http://[/", "no address|not valid"),
        ("http://images.test\\@10.0.0.1/", "backslash"),
    ],
)
def test_a_redirect_is_judged_like_the_first_address(target, message):
    def script(request):
        return Reply.redirect(target)

    with serving(script) as (server, port, fetcher):
        fetcher.resolve.names["inside.test"] = ["10.0.0.7"]
        refused(f"http://images.test:{port}/cat.png", fetcher, message)
    assert len(server.requests) == 1


def test_redirects_come_to_an_end():
    with serving(Reply.redirect("/again"), redirects=3) as (server, port, fetcher):
        refused(f"http://images.test:{port}/", fetcher, "redirects more than 3 times")
    assert len(server.requests) == 4


def test_encryption_is_not_given_up():
    assert _redirected("https://a.org/x/y", "z", "u") == "https://a.org/x/z"
    assert _redirected("http://a.org/", "https://b.org/", "u") == "https://b.org/"
    with pytest.raises(FileProcessingError, match="https to something else"):
        _redirected("https://a.org/", "http://a.org/", "u")


# Limits.


def test_no_more_than_the_limit_is_read():
    many = Reply(chunks=(b"x" * 2**16 for _ in range(10**6)))
    with serving(Reply(body=PNG), Reply(body=b"x" * 1001), many, max_bytes=1000) as (_, port, fetcher):
        url = f"http://images.test:{port}/"
        assert fetched(url, fetcher).data == PNG
        refused(url, fetcher, "more than 1,000 bytes")
        refused(url, fetcher, "more than 1,000 bytes")


def test_what_never_ends_is_given_up():
    gate = Gate()
    with serving(Reply(chunks=[PNG[:9], gate]), seconds=0.05) as (_, port, fetcher):
        refused(f"http://images.test:{port}/", fetcher, "not there within 0.05 s")


async def test_cancelling_ends_it():
    gate = Gate()
    with serving(Reply(chunks=[PNG[:9], gate])) as (server, port, fetcher):
        task = asyncio.create_task(abstractllm.fetch_file_async(f"http://images.test:{port}/", fetcher))
        assert await asyncio.to_thread(gate.reached.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.requests[0].left.wait, 10)


def test_breaks_and_compressed_answers_are_refused():
    compressed = Reply(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    with serving(Reply(body=PNG, cut_after=9), Reply.hang_up(), compressed) as (_, port, fetcher):
        url = f"http://images.test:{port}/"
        refused(url, fetcher, "cannot be fetched")
        refused(url, fetcher, "cannot be fetched")
        refused(url, fetcher, "compressed")
    refused(url, fetcher, "cannot be fetched")  # nobody is there any more


# Addresses as they are written.


@pytest.mark.parametrize(
    "url",
    [
        *("", "cat.png", "ftp://a.org/cat.png", "http://", "http:///cat.png", "http://a.org:x/", "https://[::1"),
        *("http://a.org/ä.png", "http://a.org/a b", "http://a.org/\n", "http://a\\b.org/", "http://user@a.org/"),
        *("http://1.2.3/", "http://0x7f000001/", "http://a.org%00/", "http://[fe80::1%25eth0]/", "http://a.1/"),
        "http://a.org/" + "x" * 9000,
    ],
)
def test_an_address_that_may_mean_several_things_is_refused(url):
    refused(url, Fetcher(resolve=Names()), "The file at")


@given(st.text(max_size=40) | st.text("htp:/@[]%.\\ 127#?x", max_size=40))
def test_any_text_is_an_address_with_one_host_or_refused(text):
    try:
        parts = _checked(f"http://{text}", "u")
    except FileProcessingError:
        return
    assert parts.scheme == "http"
    assert parts.hostname
    assert parts.fragment == ""
    from yarl import URL

    assert URL(parts.geturl()).host == parts.hostname.lower()


def test_no_message_shows_what_may_be_a_key():
    message = refused("http://me:secret@a.org/cat.png?key=secret#secret", Fetcher(), "user or a password")
    assert "secret" not in message
    assert "http://a.org/cat.png" in message


async def test_the_systems_resolver_finds_this_machine():
    found = await system_resolver("localhost", 80)
    assert set(found) & {"127.0.0.1", "::1"}
    assert len(found) == len(set(found))
