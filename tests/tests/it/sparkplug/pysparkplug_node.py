# An edge node with a device, by PyPI pysparkplug. Lines on stdin: `x 5`, `y 5` (the node's metrics), `z 5` (the device's),
# `ddeath`. It says "born" for each connection and "asked" for each request for its births, which it answers by a new session.
# Of commands it says "told x 5", and does what they say.
import queue
import sys
import threading
import time

import pysparkplug as spb

port = int(sys.argv[1])
events = queue.Queue()


def metric(name, value):
    now = spb.get_current_timestamp()
    return spb.Metric(timestamp=now, name=name, datatype=spb.DataType.INT16, value=value)


def command(node, message):
    for asked in message.payload.metrics:
        if asked.name == "Node Control/Rebirth" and asked.value is True:
            events.put("asked")
        else:
            print(f"told {asked.name} {asked.value}", flush=True)
            events.put(f"{asked.name} {asked.value}")


def read():
    for line in sys.stdin:
        events.put(line.strip())
    events.put("end")


rebirth = spb.Metric(
    timestamp=spb.get_current_timestamp(),
    name="Node Control/Rebirth",
    datatype=spb.DataType.BOOLEAN,
    value=False,
)
node = spb.EdgeNode("g", "n", [metric("x", -1), metric("y", 20), rebirth], cmd_callback=command)
node.register(spb.Device("d", [metric("z", 30)], cmd_callback=command))


def born():
    node.connect("127.0.0.1", port=port, blocking=False)
    while not node._connected:
        time.sleep(0.01)
    print("born", flush=True)


born()
threading.Thread(target=read, daemon=True).start()
while True:
    name, _, value = events.get().partition(" ")
    if name == "end":
        break
    if name == "asked":
        print("asked", flush=True)
        node.disconnect()
        born()
    elif name == "ddeath":
        node.deregister("d")
    elif name == "z":
        node.update_device("d", [metric("z", int(value))])
    else:
        node.update([metric(name, int(value))])
