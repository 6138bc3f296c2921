"""One node of the original peer cache, driven by lines: what `node.rs` does with a node of ours.

    driver.py CHECKOUT PORT PAYLOAD [ADDRESS]

takes the cache class from CHECKOUT as it is, starts a node that listens on PORT and dials ADDRESS, says
where it can be dialled, and obeys lines until its input ends:

    put PREFIX FIRST COUNT BYTES    one after the other, each as soon as the one before has returned
    see PREFIX COUNT BYTES LIMIT    looks until all are there, at most LIMIT ms: how many are, and which is the first
    peers                           how many are connected

Values are slices of the file PAYLOAD, so both ends know each of them. CACHE_P2P_SHARED_SECRET has the secret.
"""

import logging
import os
import sys
import time
import traceback
import types
from pathlib import Path

OPERATION = "bench"
LIFETIME_S = 3600
ENTRIES = 100_000
START_S = 20
# As in node.rs.
STRIDE = 4099
REST_S = 0.001
REST_FACTOR = 10


def load(checkout):
    """The module with the cache; its package is entered without its `__init__`, which imports the whole project."""
    folder = Path(checkout) / "ipfs_accelerate_py"
    for name, path in [("ipfs_accelerate_py", folder), ("ipfs_accelerate_py.github_cli", folder / "github_cli")]:
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    from ipfs_accelerate_py.github_cli import cache

    if not cache.HAVE_LIBP2P or not cache.HAVE_CRYPTO:
        raise SystemExit("this version shares nothing with peers (2c715b358 does), or finds no libp2p or cryptography")
    from ipfs_accelerate_py.github_cli import p2p_connectivity

    # A node without bootstrap peers would dial these, which are public.
    p2p_connectivity.DEFAULT_BOOTSTRAP_PEERS = []
    return cache


def start(cache, port, bootstrap):
    class Node(cache.GitHubAPICache):
        def _get_public_ip(self):
            # Otherwise each connection begins with requests to web services, on the thread that all peers wait for.
            return "127.0.0.1"

    node = Node(
        default_ttl=LIFETIME_S,
        max_cache_size=ENTRIES,
        enable_persistence=False,
        enable_p2p=True,
        enable_task_p2p_cache=False,
        p2p_listen_port=port,
        p2p_bootstrap_peers=bootstrap,
        enable_peer_discovery=False,
        enable_universal_connectivity=False,
    )
    if not node._p2p_ready.wait(START_S):
        raise SystemExit(f"the original did not listen within {START_S} s: {node._p2p_last_error}")
    if node._p2p_listen_port != port:
        raise SystemExit(f"port {port} was taken before the original listened; run it again")
    if node._cipher is None:
        raise SystemExit("the original has no cipher and would send in clear")
    return node


class Values:
    """The value of an entry, by its number and size."""

    def __init__(self, path):
        self.text = Path(path).read_text(encoding="ascii")

    def of(self, number, size):
        first = number * STRIDE % (len(self.text) - size)
        return self.text[first : first + size]


def put(node, values, prefix, first, count, size):
    for number in range(first, first + count):
        node.put(OPERATION, values.of(number, size), LIFETIME_S, f"{prefix}-{number}")
    return "put"


def see(node, values, prefix, count, size, limit_ms):
    """Rests ten times as long as a look took, so that looking costs the node a tenth of its time at most."""
    missing, first, begin = list(range(count)), None, time.monotonic()
    while True:
        look, absent = time.monotonic(), []
        for number in missing:
            found = node.get(OPERATION, f"{prefix}-{number}")
            if found is None:
                absent.append(number)
                continue
            if found != values.of(number, size):
                raise SystemExit(f"{prefix}-{number} was read with another value than was written")
            first = number if first is None else min(first, number)
        missing, now = absent, time.monotonic()
        if not missing or now - begin >= limit_ms / 1000:
            return f"seen {count - len(missing)} {'-' if first is None else first}"
        time.sleep(max(REST_S, REST_FACTOR * (now - look)))


def peers(node):
    """Without itself: it dials every address that it hears of, its own too."""
    me = node._p2p_host.get_id().pretty()
    return f"peers {sum(peer != me for peer in list(node._p2p_connected_peers))}"


def main():
    checkout, port, payload, *bootstrap = sys.argv[1:]
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    node = start(load(checkout), int(port), bootstrap)
    values = Values(payload)
    print(f"at /ip4/127.0.0.1/tcp/{port}/p2p/{node._p2p_host.get_id().pretty()}", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["put", prefix, *numbers]:
                answer = put(node, values, prefix, *map(int, numbers))
            case ["see", prefix, *numbers]:
                answer = see(node, values, prefix, *map(int, numbers))
            case ["peers"]:
                answer = peers(node)
            case _:
                raise SystemExit(f"unknown line: {line!r}")
        print(answer, flush=True)


if __name__ == "__main__":
    # An ordinary end waits for the original's threads, for ever.
    try:
        main()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
