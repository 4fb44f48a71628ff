"""A round with Python's ssl over TLS. Arguments: port and the folder of certificates. The exit code tells."""

import socket
import ssl
import sys
import threading
import time

PORT, FOLDER = int(sys.argv[1]), sys.argv[2]
PATIENCE = 10


def context(identity=None, **options):
    made = ssl.create_default_context(cafile=f"{FOLDER}/ca.crt")
    if identity:
        made.load_cert_chain(f"{FOLDER}/{identity}.crt", f"{FOLDER}/{identity}.key")
    for name, value in options.items():
        setattr(made, name, value)
    return made


def connect(identity=None, **options):
    plain = socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
    return context(identity, **options).wrap_socket(plain, server_hostname="localhost")


def request(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def receive(stream, length):
    got = bytearray()
    while len(got) < length:
        part = stream.recv(1 << 16)
        assert part, f"it ended after {len(got)} of {length} bytes"
        got += part
    return bytes(got)


def ask(stream, reply, *words):
    stream.sendall(request(*words))
    got = receive(stream, len(reply))
    assert got == reply, (words, got[:100])


def versions():
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        with connect(minimum_version=version, maximum_version=version) as stream:
            assert stream.version() == name, stream.version()
            ask(stream, b"+PONG\r\n", "PING")


def identities():
    with connect("client") as stream:
        ask(stream, b"+PONG\r\n", "PING")
    for identity in ("stranger", "expired"):
        try:
            with connect(identity) as stream:
                ask(stream, b"+PONG\r\n", "PING")
        except (ssl.SSLError, ConnectionError):
            continue
        raise AssertionError(f"{identity} is let in")


def large_values():
    value = bytes(range(256)) * 4096
    with connect() as stream:
        ask(stream, b"+OK\r\n", "SET", "py", value)
        ask(stream, b"$%d\r\n%s\r\n" % (len(value), value), "GET", "py")
        # Nobody reads for a while, and then everything is there.
        stream.sendall(request("GET", "py") * 20)
        time.sleep(0.2)
        reply = b"$%d\r\n%s\r\n" % (len(value), value)
        assert receive(stream, 20 * len(reply)) == 20 * reply


def pipelines():
    with connect() as stream:
        requests = b"".join(request("ECHO", number) for number in range(10_000))
        sender = threading.Thread(target=stream.sendall, args=(requests,))
        sender.start()
        expected = b"".join(b"$%d\r\n%d\r\n" % (len(str(number)), number) for number in range(10_000))
        assert receive(stream, len(expected)) == expected
        sender.join()
        # Byte by byte: a record each, and a request over many of them.
        for byte in request("PING"):
            stream.sendall(bytes([byte]))
        assert receive(stream, 7) == b"+PONG\r\n"


def goodbyes():
    """QUIT is answered and the end announced, so that nobody can have cut it off."""
    stream = connect()
    ask(stream, b"+OK\r\n", "QUIT")
    assert stream.recv(1) == b""
    stream.close()

    strict = socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
    strict = context().wrap_socket(strict, server_hostname="localhost", suppress_ragged_eofs=False)
    ask(strict, b"+OK\r\n", "QUIT")
    assert strict.recv(1) == b"", "a close_notify"
    strict.close()

    # The client says goodbye first; what it had said before is answered.
    stream = connect()
    ask(stream, b"+OK\r\n", "SET", "goodbye", "1")
    stream.unwrap().close()

    # And one that is cut off in the middle of a request has said nothing.
    stream = connect()
    ask(stream, b"+OK\r\n", "SET", "cut", "before")
    stream.sendall(request("SET", "cut", "after")[:-3])
    socket.socket(fileno=stream.detach()).close()
    with connect() as stream:
        ask(stream, b"$6\r\nbefore\r\n", "GET", "cut")


def half_open():
    """Who stalls is ended after a second; meanwhile others are served."""
    silent = [socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE) for _ in range(50)]
    started = time.monotonic()
    with connect() as stream:
        ask(stream, b"+PONG\r\n", "PING")
    assert time.monotonic() - started < 1
    for stream in silent:
        assert stream.recv(1) == b""
        stream.close()
    assert 0.5 < time.monotonic() - started < 5


def resumption():
    first = connect(maximum_version=ssl.TLSVersion.TLSv1_2)
    kept, session = first.context, first.session
    assert not first.session_reused
    first.close()
    plain = socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE)
    with kept.wrap_socket(plain, server_hostname="localhost", session=session) as second:
        assert second.session_reused
        ask(second, b"+PONG\r\n", "PING")


def many_connections():
    streams = [connect() for _ in range(300)]
    for number, stream in enumerate(streams):
        stream.sendall(request("ECHO", number))
    for number, stream in enumerate(streams):
        reply = b"$%d\r\n%d\r\n" % (len(str(number)), number)
        assert receive(stream, len(reply)) == reply
        stream.close()


def main():
    for part in (
        versions,
        identities,
        large_values,
        pipelines,
        goodbyes,
        half_open,
        resumption,
        many_connections,
    ):
        try:
            part()
        except Exception:
            print(f"Python's ssl: {part.__name__} fails", file=sys.stderr)
            raise
    print("Python's ssl: all well")


main()
