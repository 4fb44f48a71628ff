"""A round with Django's Redis cache, sessions kept in it, and cached views, as a site would use them. The exit code tells.

Arguments: host and port, and for TLS the folder of ca.crt, client.crt and client.key, then a user and a password.
"""

import sys
import time

import django
from django.conf import settings

HOST, PORT = sys.argv[1], int(sys.argv[2])
SCHEME, OPTIONS = "redis", {"socket_timeout": 10}
if len(sys.argv) > 3:
    SCHEME = "rediss"
    OPTIONS |= {
        "ssl_ca_certs": f"{sys.argv[3]}/ca.crt",
        "ssl_certfile": f"{sys.argv[3]}/client.crt",
        "ssl_keyfile": f"{sys.argv[3]}/client.key",
        "username": sys.argv[4],
        "password": sys.argv[5],
    }

settings.configure(
    SECRET_KEY="of the round",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"{SCHEME}://{HOST}:{PORT}/0",
            "KEY_PREFIX": "django",
            "OPTIONS": OPTIONS,
        }
    },
)
django.setup()

from django.core.cache import cache  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.cache import cache_page  # noqa: E402
from importlib import import_module  # noqa: E402

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
rendered = 0


def count(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def leave(request):
    request.session.flush()
    return HttpResponse("gone")


@cache_page(60)
def slow(request):
    global rendered
    rendered += 1
    return HttpResponse(f"rendered {rendered}")


urlpatterns = [path("count", count), path("leave", leave), path("slow", slow)]


def eventually(what):
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


def values():
    cache.set("greeting", {"text": "hello", "to": ["you", None, 1.5]}, timeout=100)
    assert cache.get("greeting") == {"text": "hello", "to": ["you", None, 1.5]}
    assert cache.get("none") is None and cache.get("none", "instead") == "instead"
    assert cache.add("greeting", 1) is False and cache.add("new", b"\x00\xff" * 100_000) is True
    assert cache.get("new") == b"\x00\xff" * 100_000
    assert cache.get_or_set("made", lambda: 42) == 42 and cache.get_or_set("made", 0) == 42
    assert cache.has_key("made") and "none" not in cache
    assert cache.delete("made") is True and cache.delete("made") is False


def counters():
    cache.set("n", 1, timeout=None)
    assert (cache.incr("n"), cache.incr("n", 40), cache.decr("n", 2)) == (2, 42, 40)
    assert cache.get("n") == 40
    try:
        cache.incr("none")
    except ValueError:
        pass
    else:
        raise AssertionError("what is not there is not counted")


def many():
    assert cache.set_many({f"k{n}": n for n in range(200)}, timeout=30) == []
    assert cache.get_many([f"k{n}" for n in range(0, 300, 2)]) == {f"k{n}": n for n in range(0, 200, 2)}
    cache.delete_many([f"k{n}" for n in range(100)])
    assert cache.get_many(["k99", "k100"]) == {"k100": 100}


def lifetimes():
    cache.set("short", "x", timeout=1)
    assert cache.touch("short", 100) is True and cache.touch("none", 100) is False
    assert cache.touch("short", None) is True and cache.get("short") == "x"
    cache.set("shorter", "x", timeout=0)
    assert cache.get("shorter") is None
    cache.touch("short", 1)
    eventually(lambda: cache.get("short") is None)


def versions():
    cache.set("of", "one", version=1)
    cache.set("of", "two", version=2)
    assert cache.get("of") == "one" and cache.get("of", version=2) == "two"
    assert cache.incr_version("of", version=2) == 3
    assert cache.get("of", version=2) is None and cache.get("of", version=3) == "two"


def sessions():
    session = SessionStore()
    session["cart"] = ["apples", "pears"]
    session.set_expiry(300)
    session.create()
    key = session.session_key
    assert SessionStore(session_key=key)["cart"] == ["apples", "pears"] and session.exists(key)
    session.cycle_key()
    assert not session.exists(key) and SessionStore(session_key=session.session_key)["cart"][1] == "pears"
    session.flush()
    assert session.session_key is None


def views():
    one, other = Client(), Client()
    assert [one.get("/count").content for _ in range(3)] == [b"1", b"2", b"3"]
    assert other.get("/count").content == b"1"
    assert one.get("/leave").content == b"gone" and one.get("/count").content == b"1"
    pages = {one.get("/slow").content for _ in range(3)} | {other.get("/slow").content}
    assert pages == {b"rendered %d" % rendered}, pages


def clearing():
    cache.set("k", "v")
    cache.clear()
    assert cache.get("k") is None


def rights():
    """A user of its own has its keys, and nothing else."""
    if SCHEME == "redis":
        return
    client = cache._cache.get_client()
    for refused in (lambda: client.get("elsewhere"), lambda: client.config_get("*"), lambda: client.flushall()):
        try:
            refused()
        except Exception as error:
            assert "permissions" in str(error), error
        else:
            raise AssertionError("it is not allowed")


def main():
    cache.clear()
    for part in (values, counters, many, lifetimes, versions, sessions, views, clearing, rights):
        try:
            part()
        except Exception:
            print(f"Django {django.__version__}: {part.__name__} fails", file=sys.stderr)
            raise
    print(f"Django {django.__version__}{', TLS, a user' if SCHEME == 'rediss' else ''}: all well")


main()
