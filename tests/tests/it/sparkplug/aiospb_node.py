# An edge node by PyPI aiospb, whose primary host is "host": it sends its births when that comes online, and keeps what
# changes meanwhile as historical values. Lines on stdin: `x 5`. aiospb has no encoder for Protocol Buffers, so there is one.
import asyncio
import json
import struct
import sys
import time

from aiospb.data import DataType, Metric
from aiospb.mqtt import MessageEncoder
from aiospb.mqtt.paho import PahoMqttClient
from aiospb.nodes import DeviceDriver, EdgeNode


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def metric(given):
    out = block(1, given["name"].encode()) if given.get("name") else b""
    out += number(2, given["alias"]) if given.get("alias") else b""
    out += number(3, given["timestamp"]) + number(4, DataType[given["dataType"]].value)
    for field, flag in ((5, "is_historical"), (6, "is_transient"), (7, "is_null")):
        out += number(field, 1) if given.get(flag) else b""
    if given.get("is_null"):
        return out
    kind, value = given["dataType"], given["value"]
    if kind == "Double":
        return out + varint(13 << 3 | 1) + struct.pack("<d", value)
    if kind == "Boolean":
        return out + number(14, int(value))
    return out + number(11, value & 0xFFFFFFFFFFFFFFFF)


class Encoder(MessageEncoder):
    def encode(self, payload_dict):
        out = number(1, payload_dict["timestamp"])
        out += b"".join(block(2, metric(given)) for given in payload_dict["metrics"])
        return out + (number(3, payload_dict["seq"]) if "seq" in payload_dict else b"")

    def decode(self, payload):
        return json.loads(payload)


class Driver(DeviceDriver):
    def __init__(self):
        self.x = (1.5, int(time.time() * 1000))
        self.loaded = False

    async def load_metrics(self):
        self.loaded = True
        value, at = self.x
        return [Metric("x", at, value, DataType.Double, alias=7)]

    async def scan_metrics(self, aliases=None):
        # The node compares with what its birth has listed.
        return await self.load_metrics() if self.loaded else []

    async def write_metric(self, request):
        raise NotImplementedError


async def main():
    driver = Driver()
    config = {"hostname": "127.0.0.1", "port": sys.argv[1], "username": None, "password": None}
    client = PahoMqttClient(config, Encoder())
    node = EdgeNode("n", "g", client, driver, primary_hostname="host", scan_rate=50)
    await node.establish_session()
    print("born", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        driver.x = (float(line.split()[1]), int(time.time() * 1000))
        # Until the next scan has seen it.
        await asyncio.sleep(0.2)
        print("seen", flush=True)


asyncio.run(main())
