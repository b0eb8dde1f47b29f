// An edge node with a device, by npm sparkplug-client. Lines on stdin: `x 5`, `y 5` (the node's metrics), `z 5` (the
// device's), `ddeath`. Its data has aliases and no names. It says "born" and "asked", and answers by its births. Of commands it
// says "told x 5", and does what they say.
const sparkplug = require("sparkplug-client");
const lines = require("readline").createInterface({ input: process.stdin });

const values = { x: -1, y: 20, z: 30 };
const alias = { x: 1, y: 2, z: 3 };
const named = (name) => ({ name, alias: alias[name], value: values[name], type: "Int16", timestamp: Date.now() });
const aliased = (name) => ({ alias: alias[name], value: values[name], type: "Int16", timestamp: Date.now() });

const client = sparkplug.newClient({
    serverUrl: `mqtt://127.0.0.1:${process.argv[2]}`,
    username: "",
    password: "",
    groupId: "g",
    edgeNode: "n",
    clientId: "n",
    version: "spBv1.0",
});

const births = () => {
    const rebirth = { name: "Node Control/Rebirth", value: false, type: "Boolean" };
    client.publishNodeBirth({ timestamp: Date.now(), metrics: [named("x"), named("y"), rebirth] });
    client.publishDeviceBirth("d", { timestamp: Date.now(), metrics: [named("z")] });
};
client.on("birth", () => {
    births();
    console.log("born");
});
client.on("ncmd", (payload) => {
    if (payload.metrics.some((metric) => metric.name === "Node Control/Rebirth" && metric.value === true)) {
        console.log("asked");
        births();
    } else {
        obey(payload);
    }
});
client.on("dcmd", (device, payload) => obey(payload));

// Names are not taken: metrics with an alias are called by it.
const obey = ({ metrics }) => {
    for (const metric of metrics) {
        const name = Object.keys(alias).find((name) => alias[name] === Number(metric.alias) && !metric.name);
        console.log(`told ${name} ${metric.value}`);
        if (name) change(name, Number(metric.value));
    }
};

const change = (name, value) => {
    values[name] = value;
    const data = { timestamp: Date.now(), metrics: [aliased(name)] };
    if (name === "z") client.publishDeviceData("d", data);
    else client.publishNodeData(data);
};

lines.on("line", (line) => {
    const [name, value] = line.split(" ");
    if (name === "ddeath") {
        client.publishDeviceDeath("d", { timestamp: Date.now(), metrics: [] });
        return;
    }
    change(name, Number(value));
});
