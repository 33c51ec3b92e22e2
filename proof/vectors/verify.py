#!/usr/bin/env python3
"""A second verifier of the proofs of docs/proofs.md, and a check that it agrees with the vectors.

    python3 proof/vectors/verify.py              every *.json beside this file
    python3 proof/vectors/verify.py FILE ...     these files

It was written from docs/proofs.md alone; section numbers are those of that document. It needs Python 3.8
and no package. It is for reading and for comparing, not for speed: a proof is parsed into lists.
"""

import hashlib
import json
import pathlib
import sys

MAX_ONE = 70_132  # bytes of a proof of one entry with a value of 65,536 bytes, at most
MAX_SET = 16 << 20  # bytes of a proof of several
END = b"\xff" * 32


class Refused(Exception):
    """The proof proves nothing; the name of the check that failed."""


def require(holds, check):
    if not holds:
        raise Refused(check)


def sha256(data):
    return hashlib.sha256(data).digest()


def node(level, left, right):
    return sha256(bytes([level]) + left + right)


def number(data):
    return int.from_bytes(data, "little")


class Entry:
    """Section 1.1."""

    def __init__(self, data):
        require(len(data) >= 5, "entry")
        key_len, value_len, count = data[0], number(data[1:4]), data[4]
        size = 53 + key_len + value_len + 8 * count
        require(key_len > 0 and len(data) >= size, "entry")
        self.bytes = data[:size]
        self.key = data[5 : 5 + key_len]
        tail = 5 + key_len + value_len
        self.value = data[5 + key_len : tail]
        self.next = data[tail : tail + 32]
        version = int.from_bytes(data[tail + 32 : tail + 40], "little", signed=True)
        self.height = max(version, 0) >> 24
        self.sn = number(data[tail + 40 : tail + 48])
        self.deactivated = [number(data[at : at + 8]) for at in range(tail + 48, size, 8)]
        self.sentry = self.value == b"" and key_len == 32 and self.key[2:] == bytes(30)
        self.own = self.key if self.sentry else sha256(self.key)
        self.shard = self.own[0] >> 4
        self.active = None  # known when the page is

    def answer(self, key):
        """Section 4: a tuple with the value or None, or no tuple if it does not answer."""
        if self.key == key and not self.sentry:
            return (self.value,)
        wanted = sha256(key)
        if self.own < wanted < self.next and wanted[0] >> 4 == self.shard:
            return (None,)
        return None


class Proof:
    """Sections 2 and 3: decoded, and the root that it leads to."""

    def __init__(self, data, limit):
        require(len(data) <= limit, "limit")
        require(len(data) >= 1, "length")
        require(data[0] == 2, "version")
        require(len(data) >= 7, "length")
        count, mask = number(data[1:5]), number(data[5:7])
        require(count >= 1, "no entries")
        shards = [shard for shard in range(16) if mask >> shard & 1]
        at = 7 + len(shards)
        require(len(data) >= at, "length")
        self.levels = dict(zip(shards, data[7:at]))
        require(all(k <= 51 for k in self.levels.values()), "upper levels")
        self.entries = []
        for _ in range(count):
            entry = Entry(data[at:])
            at += len(entry.bytes)
            place = (entry.shard, entry.sn)
            if self.entries:
                last = self.entries[-1]
                require((last.shard, last.sn) < place, "order")
            require(entry.shard in self.levels, "shards")
            require(entry.sn >> 11 < 1 << self.levels[entry.shard], "position")
            self.entries.append(entry)
        require({entry.shard for entry in self.entries} == set(shards), "shards")
        pages = sorted({(entry.shard, entry.sn >> 8) for entry in self.entries})
        require(len(data) >= at + 32 * len(pages), "length")
        self.pages = {}
        for page in pages:
            self.pages[page] = data[at : at + 32]
            at += 32
        self.data, self.at = data, at
        self.root = self.state(68, 0)
        require(self.at == len(data), "length")
        for entry in self.entries:
            page = self.pages[entry.shard, entry.sn >> 8]
            entry.active = bool(page[entry.sn % 256 // 8] >> (entry.sn % 8) & 1)

    def take(self):
        taken = self.data[self.at : self.at + 32]
        require(len(taken) == 32, "length")
        self.at += 32
        return taken

    def has(self, shard, shift, place):
        return any(e.shard == shard and e.sn >> shift == place for e in self.entries)

    def state(self, level, i):
        if not any(shard >> (level - 64) == i for shard in self.levels):
            return self.take()
        if level == 64:
            return self.upper(i, 12 + self.levels[i], 0)
        left = self.state(level - 1, 2 * i)
        return node(level - 1, left, self.state(level - 1, 2 * i + 1))

    def upper(self, shard, level, i):
        if not self.has(shard, 11 + level - 12, i):
            return self.take()
        if level == 12:
            left = self.left(shard, 11, i)
            return node(11, left, self.right(shard, 11, i))
        left = self.upper(shard, level - 1, 2 * i)
        return node(level - 1, left, self.upper(shard, level - 1, 2 * i + 1))

    def left(self, shard, level, i):
        if not self.has(shard, level, i):
            return self.take()
        if level == 0:
            (entry,) = [e for e in self.entries if e.shard == shard and e.sn == i]
            return sha256(entry.bytes)
        left = self.left(shard, level - 1, 2 * i)
        return node(level - 1, left, self.left(shard, level - 1, 2 * i + 1))

    def right(self, shard, level, i):
        if not self.has(shard, level, i):
            return self.take()
        if level == 8:
            return self.pages[shard, i]
        left = self.right(shard, level - 1, 2 * i)
        return node(level - 1, left, self.right(shard, level - 1, 2 * i + 1))


def state_root(shard_roots):
    """Section 1.2."""
    nodes = shard_roots
    for level in range(64, 68):
        nodes = [node(level, *pair) for pair in zip(nodes[::2], nodes[1::2])]
    (root,) = nodes
    return root


def opened(root, data, limit):
    proof = Proof(data, limit)
    require(proof.root == root, "root")
    return proof.entries


def check_key(key):
    require(1 <= len(key) <= 255, "key length")


def verify(root, key, data):
    """Section 4.1: the value, or None if the key is absent."""
    check_key(key)
    entries = opened(root, data, MAX_ONE)
    require(len(entries) == 1, "entry count")
    require(entries[0].active, "inactive")
    answer = entries[0].answer(key)
    require(answer, "key")
    return answer[0]


def verify_many(root, keys, data):
    """Section 4.2: for each key the value or None."""
    require(keys, "no keys")
    for key in keys:
        check_key(key)
    entries = opened(root, data, MAX_SET)
    require(all(entry.active for entry in entries), "inactive")
    answers, used = [], set()
    for key in keys:
        below = [entry for entry in entries if entry.own <= sha256(key)]
        require(below, "key")
        entry = max(below, key=lambda entry: entry.own)
        answer = entry.answer(key)
        require(answer, "key")
        used.add(entry)
        answers.append(answer[0])
    require(len(used) == len(entries), "surplus")
    return answers


def verify_range(root, start, data):
    """Section 4.3: the items, and where to go on."""
    entries = opened(root, data, MAX_SET)
    require(all(entry.active for entry in entries), "inactive")
    entries = sorted(entries, key=lambda entry: entry.own)
    until = None
    for entry in entries:
        require(until in (None, entry.own), "gap")
        last = entry.shard == 15
        border = END if last else bytes([entry.shard + 1 << 4]) + bytes(31)
        require(entry.own < entry.next <= border, "gap")
        require(until is not None or entry.own <= start < entry.next, "start")
        until = entry.next
    items = [(e.key, e.value) for e in entries if not e.sentry and e.own >= start]
    return items, until


def verify_past(root, key, height, data):
    """Section 4.4: the value at that height, or None."""
    check_key(key)
    entries = opened(root, data, 2 * MAX_ONE)
    require(len(entries) <= 2, "entry count")
    first = entries[0]
    require(len(entries) == 2 or first.active, "inactive")
    answer = first.answer(key)
    require(answer, "key")
    require(first.height <= height, "later")
    if len(entries) == 2:
        second = entries[1]
        replaced = second.shard == first.shard and first.sn in second.deactivated
        require(replaced and second.height > height, "not replaced")
    return answer[0]


def hexed(value):
    return None if value is None else value.hex()


def run(vector):
    """What the verifier says of a vector, in the words of the vectors."""
    data, root = bytes.fromhex(vector["proof"]), bytes.fromhex(vector["root"])
    if "shard_roots" in vector:
        assert root == state_root([bytes.fromhex(shard) for shard in vector["shard_roots"]])
    keys = [bytes.fromhex(key) for key in vector.get("keys") or []]
    family = vector["family"]
    try:
        if family == "single":
            return {"answers": [hexed(verify(root, keys[0], data))]}
        if family == "many":
            return {"answers": [hexed(answer) for answer in verify_many(root, keys, data)]}
        if family == "range":
            items, until = verify_range(root, bytes.fromhex(vector["from"]), data)
            items = [[key.hex(), value.hex()] for key, value in items]
            return {"items": items, "until": until.hex()}
        if family == "past":
            return {"answers": [hexed(verify_past(root, keys[0], vector["height"], data))]}
    except Refused as refused:
        return {"error": str(refused)}
    raise ValueError(f"unknown family {family}")


def main(names):
    here = pathlib.Path(__file__).resolve().parent
    paths = [pathlib.Path(name) for name in names] or sorted(here.glob("*.json"))
    right = wrong = 0
    for path in paths:
        for vector in json.loads(path.read_text())["vectors"]:
            said = run(vector)
            if said == vector["expect"]:
                right += 1
            else:
                wrong += 1
                print(f"{path.name}: {vector['name']}: said {said}, expected {vector['expect']}")
    print(f"{right} vectors agree, {wrong} do not")
    return 0 if right and not wrong else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
