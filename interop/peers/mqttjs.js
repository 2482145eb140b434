// MQTT.js, told what to do by lines of fields: see interop/src/peers/driver.rs.

const fs = require("fs");
const mqtt = require("mqtt");

let client;
let isV5;
const messages = [];
let waiting;

function received(topic, payload, packet) {
  const identifiers = [packet.properties?.subscriptionIdentifier ?? []].flat();
  const message = [
    "message",
    `topic=${topic}`,
    `qos=${packet.qos}`,
    `retain=${Number(packet.retain)}`,
    `payload=${payload.toString("hex")}`,
    `identifiers=${identifiers}`,
  ].join("\t");
  if (waiting) waiting(message);
  else messages.push(message);
}

function connect(it) {
  isV5 = it.version === "5";
  const options = {
    clientId: it.id,
    clean: it.clean === "1",
    protocolVersion: isV5 ? 5 : 4,
    reconnectPeriod: 0,
    username: it.user,
    password: it.password,
  };
  if (isV5) options.properties = { sessionExpiryInterval: Number(it.expiry) };
  if (it.will) {
    const payload = Buffer.from(it.will_payload, "hex");
    options.will = { topic: it.will, payload, qos: 1, retain: false };
    if (isV5) options.will.properties = { willDelayInterval: Number(it.will_delay) };
  }
  for (const file of ["ca", "cert", "key"]) {
    if (it[file]) options[file] = fs.readFileSync(it[file]);
  }
  client = mqtt.connect(it.url, options);
  client.on("message", received);
  return new Promise((resolve) => {
    client.once("connect", (connack) => resolve(`ok\tpresent=${Number(connack.sessionPresent)}`));
    client.on("error", (error) =>
      // What the network says has a name instead of a number.
      resolve(error.code > 0 ? `refused\treason=${error.code}` : `error\t${error}`));
    client.once("close", () => resolve("error\tit is closed"));
  });
}

async function subscribe(it) {
  const options = { qos: Number(it.qos) };
  if (it.identifier) options.properties = { subscriptionIdentifier: Number(it.identifier) };
  const [granted] = await client.subscribeAsync(it.filter, options);
  return `ok\treason=${granted.qos}`;
}

async function publish(it) {
  const options = { qos: Number(it.qos), retain: it.retain === "1" };
  if (it.alias) options.properties = { topicAlias: Number(it.alias) };
  await client.publishAsync(it.topic, Buffer.from(it.payload, "hex"), options);
  return "ok";
}

function next(it) {
  if (messages.length > 0) return messages.shift();
  return new Promise((resolve) => {
    const timer = setTimeout(() => waiting("nothing"), Number(it.within) * 1000);
    waiting = (answer) => {
      clearTimeout(timer);
      waiting = undefined;
      resolve(answer);
    };
  });
}

async function disconnect() {
  await client.endAsync();
  return "ok";
}

const verbs = { connect, subscribe, publish, next, disconnect };

async function main() {
  for await (const line of require("readline").createInterface({ input: process.stdin })) {
    const [verb, ...fields] = line.split("\t");
    const it = Object.fromEntries(fields.map((field) => field.split(/=(.*)/s)));
    let answer;
    try {
      answer = await verbs[verb](it);
    } catch (error) {
      answer = `error\t${error}`;
    }
    process.stdout.write(answer + "\n");
  }
  process.exit();
}

main();
