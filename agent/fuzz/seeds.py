#!/usr/bin/env python3
"""Writes the first inputs of each fuzz target: `seeds.py DIRECTORY` makes DIRECTORY/TARGET/*.

They are the payloads of the devices in tests/fixtures/devices, and some that no fixture has. The formats are those that the
modules in src/ read.
"""

import hashlib
import json
import re
import struct
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Rules that an input's number may mean. There are fewer; the rest means them again.
RULES = 24


def main(directory):
    seeds = {name: set() for name in ("json", "formats", "text", "sparkplug", "observer")}
    cases, worlds = fixtures()
    for case in cases:
        stories(case, worlds, seeds["observer"])
        for message in case["messages"]:
            single(message, seeds)
    for steps in sparkplug_stories():
        seeds["observer"].add(number(worlds.index("sparkplug")) + b"".join(steps))
    for payload in sparkplug_payloads().values():
        seeds["sparkplug"].add(b"\2" + payload)
    shapes(worlds, seeds)
    for target, inputs in seeds.items():
        (directory / target).mkdir(parents=True, exist_ok=True)
        for data in inputs:
            (directory / target / hashlib.sha1(data).hexdigest()).write_bytes(data)
        print(f"{target}: {len(inputs)} seeds")


def fixtures():
    """All cases, and the names of the worlds in the order of src/worlds.rs."""
    presets = sorted(re.findall(r'^    \("([a-z0-9-]+)", include_str', read("agent/src/config/presets.rs"), re.M))
    files = sorted((ROOT / "tests/fixtures/devices").glob("*.toml"))
    documents = {file.stem: tomllib.loads(file.read_text())["case"] for file in files}
    own = [case["name"] for stem in ("rules", "formats") for case in documents[stem] if "rules" in case]
    worlds = ["sparkplug", "shapes", "together", *presets, *own]
    return [case for cases in documents.values() for case in cases], worlds


def read(path):
    return (ROOT / path).read_text()


def payload(message):
    if "hex" in message:
        return bytes.fromhex(message["hex"])
    return json.dumps(message["json"]).encode() if "json" in message else message["payload"].encode()


def number(value):
    return struct.pack("<H", value)


def message(topic, payload, retain=False, source=0):
    topic = topic.encode()
    return bytes([source | (0x80 if retain else 0), len(topic)]) + number(len(payload)) + topic + payload


def other(what, by=0):
    """A step that is no message: see Run::other."""
    return bytes([0x40 | what, by])


def stories(case, worlds, seeds):
    name = case.get("preset", case["name"])
    if name not in worlds:
        return
    steps = [message(m["topic"], payload(m), m.get("retain", False)) for m in case["messages"]]
    seeds.add(number(worlds.index(name)) + b"".join(steps))
    if "preset" in case:
        seeds.add(number(worlds.index("together")) + other(0).join(steps) + other(4) + steps[0])


def single(message, seeds):
    data = payload(message)
    seeds["text"].add(b"\0" + data[:64])
    seeds["text"].add(b"\1" + data[:64])
    topic = message["topic"]
    if topic.count("/") >= 1:
        first, rest = topic.split("/", 1)
        seeds["text"].add(f"\2{first}/#rest\n{topic}\n{first}/x/{{rest}}".encode())
        seeds["text"].add(f"\2+first/{rest}\n{topic}\n+/{rest}".encode())
    seeds["text"].add(f"\3{topic[:3]}*{topic[-2:]}\n{topic}".encode())
    kind = "json" if data[:1] in (b"{", b"[") else "formats"
    # Which rule reads which payload does not matter to what can go wrong; the fuzzer tries others.
    rule = int.from_bytes(hashlib.sha1(data).digest()[:2], "little") % RULES
    for number_of in (rule, 0):
        seeds[kind].add(number(number_of) + data)


SHAPES = {
    "plain/a": [{"a": 1, "b": {"c": [1, 2.5]}, "d": None, "deadband": 1.5, "slow": 1, "held": 2, "every": True}],
    "shaped/a": [{"a": {"b": [{"x": 1}, 2]}, "t": "2026-11-28T12:00:00+02:00"}],
    "value/a": [{"value": {"x": "ON"}, "time": 1700000000000}, {"value": 3}],
    "field/a": [{"l": [{"name": "k", "v": "1 W"}, {"v": 2}], "a": {"x": 1}, "p_n": "19.2 W", "p_b": "ON", "p_i": "7"}],
    "members/a/b": [{"m": {"x": {"v": 1, "kind": "k", "at": "2026-11-28 12:00:00"}, "y": {"id": 7, "v": "t"}}}],
    "elements/a/b": [[{"id": "a", "v": [1, {"b": 2}], "secret": "s"}, {"v": 1}]],
    "together/a": [{"act": 1, "x": {"y": "z"}, "n": 5, "t": "2026-11-28T12:00:00Z", "s": 1}],
    "actions/a": [{"n": 5, "button": "single"}],
}
SCALARS = {
    "scalar/a/n": ["19.2 W", "1.10", "-0"], "scalar/a/i": ["7", "18446744073709551615"], "scalar/a/b": ["ON", "OFF"],
    "scalar/a/t": ["2024.10"], "scalar/a/secret": ["s", ""], "availability/a": ["online", '{"state":"offline"}', "other"],
    "action/a": ["single"], "influx/a": ["m,host=h f=1i,g=\"t\",b=t 1700000000000000000\nm f=2.5"],
    "senml/a": ['[{"bn":"d:","n":"x","v":1,"u":"V","t":-5},{"n":"y","vs":"t"},{"n":"z","vb":true},{"n":"d","vd":"AQI"}]'],
}
BINARY = {
    "cbor/a": ["a2616101616283f5f6fb3ff8000000000000", "a16174c11a514b67b0", "bf6178a1617901ff"],
    "msgpack/a": ["82a16101a16281a16393c3c0cb3ff8000000000000", "81a178d6ff00000000"],
    "senml-cbor/a": ["82a42162643a006178022161560601a200617903624d79"],
}


def shapes(worlds, seeds):
    texts = {topic: [json.dumps(body) for body in bodies] for topic, bodies in SHAPES.items()}
    texts |= SCALARS
    bodies = {topic: [text.encode() for text in texts] for topic, texts in texts.items()}
    bodies |= {topic: [bytes.fromhex(digits) for digits in all_of] for topic, all_of in BINARY.items()}
    world = number(worlds.index("shapes"))
    for place, (topic, all_of) in enumerate(bodies.items()):
        once = b"".join(message(topic, body) for body in all_of)
        seeds["observer"].add(world + once + other(1, 6) + once + other(6) + other(0) + other(4) + once)
        seeds["observer"].add(world + once + other(2, 90) + once + other(5) + once + other(7, 1))
        for body in all_of:
            kind = "json" if topic in SHAPES else "formats"
            for rule in (place, place % 5):
                seeds[kind].add(number(rule) + body)
    everything = b"".join(message(topic, body) for topic, all_of in bodies.items() for body in all_of)
    seeds["observer"].add(world + everything)
    for step in range(0, 256, 16):
        seeds["sparkplug"].add(b"\0\xff" + bytes([0, 0, 11, 1, 11, 3, step, 2, 8, 9, 9, 0, 11, 4]))
    seeds["sparkplug"].add(b"\0\xff" + bytes([0, 0]) + bytes(b for seq in range(2, 70) for b in (11, seq)))
    for topic in ("spBv1.0/g/NBIRTH/n", "spBv1.0/g/DDATA/n/d", "spBv1.0/STATE/h", "spBv1.0/g/DCMD/n/d"):
        seeds["sparkplug"].add(b"\1" + topic.encode())


# Protocol Buffers, as much as Sparkplug's payloads need.


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(tag, value):
    """An integer as a varint, a float in 32 or (a tuple) 64 bits, text or bytes with their length."""
    if isinstance(value, tuple):
        return varint(tag << 3 | 1) + struct.pack("<d", *value)
    if isinstance(value, float):
        return varint(tag << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(tag << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(tag << 3 | 2) + varint(len(data)) + data


def metric(datatype, tag, value, name=None, alias=None, more=b""):
    named = b"" if name is None else field(1, name)
    numbered = b"" if alias is None else field(2, alias)
    return field(2, named + numbered + field(3, 1795867200000) + field(4, datatype) + more + field(tag, value))


def sparkplug_payload(seq, *metrics):
    return field(1, 1795867200000) + b"".join(metrics) + (b"" if seq is None else field(3, seq))


def sparkplug_payloads():
    bdseq = metric(8, 11, 3, "bdSeq")
    rebirth = metric(11, 14, 0, "Node Control/Rebirth")
    cells = field(3, field(1, field(1, 7)) + field(1, field(6, "t")))
    table = field(1, 2) + field(2, "n") + field(2, "s") + varint(3 << 3 | 2) + b"\2" + bytes([3, 12]) + field(4, cells[2:])
    return {
        "NBIRTH": sparkplug_payload(0, bdseq, rebirth, metric(9, 12, 1.5, "volts", 1), metric(12, 15, "t", "text", 2)),
        "NDATA": sparkplug_payload(1, metric(9, 12, 2.5, alias=1), metric(12, 15, "u", "text", more=field(6, 1))),
        "DBIRTH": sparkplug_payload(2, metric(10, 13, (0.1,), "level", 3), metric(16, 17, table, "table", 4),
                                    metric(24, 16, struct.pack("<ii", 1, -2), "list", 5), metric(17, 16, b"\1\2", "bytes", 6),
                                    metric(33, 16, b"a\0b\0", "texts", 8), metric(32, 16, struct.pack("<I", 3) + b"\xa0", "flags", 7)),
        "DDATA": sparkplug_payload(3, metric(10, 13, (0.2,), alias=3, more=field(5, 1)), metric(13, 11, 1795867200000, "at", 9)),
        "DDEATH": sparkplug_payload(4),
        "NDEATH": sparkplug_payload(None, bdseq),
    }


def sparkplug_stories():
    payloads = sparkplug_payloads()

    def of(verb):
        return message(f"spBv1.0/g/{verb}/n" + ("/d" if verb[0] == "D" else ""), payloads[verb])

    all_of = ["NBIRTH", "NDATA", "DBIRTH", "DDATA", "DDEATH", "NDEATH"]
    yield [of(verb) for verb in all_of]
    yield [of(verb) for verb in ("NBIRTH", "DBIRTH", "NDATA", "DDATA")] + [other(1, 3), of("NBIRTH")]
    yield [of("NBIRTH"), of("NDATA"), other(4), of("DBIRTH"), other(3, 2), of("DDATA"), other(5), of("NDEATH")]
    yield [of("NDATA"), other(1, 9), of("NBIRTH"), other(2, 20), of("NDATA"), other(0)]
    for verb in all_of:
        yield [of(verb), other(0), of(verb)]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
