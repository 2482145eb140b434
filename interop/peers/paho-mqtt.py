"""paho-mqtt, told what to do by lines of fields: see interop/src/peers/driver.rs."""

import queue
import ssl
import sys
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

client = None
is_v5 = False
messages = queue.Queue()
answers = queue.Queue()


def properties(kind, **values):
    """For 5.0; those that have a value."""
    if not is_v5:
        return None
    properties = Properties(kind)
    for name, value in values.items():
        if value is not None:
            setattr(properties, name, int(value))
    return properties


def connected(client, _, flags, reason, __):
    answers.put((reason.value, flags.session_present))


def subscribed(client, _, mid, reasons, __):
    answers.put(reasons[0].value)


def connect(it):
    global client, is_v5
    is_v5 = it["version"] == "5"
    url = urlparse(it["url"])
    clean = it["clean"] == "1"
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        it["id"],
        clean_session=None if is_v5 else clean,
        protocol=mqtt.MQTTv5 if is_v5 else mqtt.MQTTv311,
        transport="websockets" if url.scheme in ("ws", "wss") else "tcp",
    )
    if url.scheme in ("ws", "wss"):
        client.ws_set_options(path=url.path)
    if "ca" in it:
        client.tls_set(it["ca"], it.get("cert"), it.get("key"), cert_reqs=ssl.CERT_REQUIRED)
    if "user" in it:
        client.username_pw_set(it["user"], it["password"])
    if "will" in it:
        delay = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=it["will_delay"])
        client.will_set(it["will"], bytes.fromhex(it["will_payload"]), 1, False, delay)
    client.on_connect = connected
    client.on_disconnect = lambda *_: answers.put(("it is closed", None))
    client.on_subscribe = subscribed
    client.on_message = lambda client, _, message: messages.put(message)
    arguments = {}
    if is_v5:
        expiry = properties(PacketTypes.CONNECT, SessionExpiryInterval=it["expiry"])
        arguments = {"clean_start": clean, "properties": expiry}
    client.connect(url.hostname, url.port, 60, **arguments)
    client.loop_start()
    reason, present = answers.get(timeout=10)
    client.on_disconnect = None
    if present is None:
        return f"error\t{reason}"
    if reason != 0:
        return f"refused\treason={reason}"
    return f"ok\tpresent={int(present)}"


def subscribe(it):
    if is_v5:
        identifier = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=it.get("identifier"))
        options = SubscribeOptions(qos=int(it["qos"]))
        client.subscribe(it["filter"], options=options, properties=identifier)
    else:
        client.subscribe(it["filter"], int(it["qos"]))
    return f"ok\treason={answers.get(timeout=10)}"


def publish(it):
    alias = properties(PacketTypes.PUBLISH, TopicAlias=it.get("alias"))
    payload = bytes.fromhex(it["payload"])
    retain = it["retain"] == "1"
    publish = client.publish(it["topic"], payload, int(it["qos"]), retain, alias)
    publish.wait_for_publish(10)
    return "ok" if publish.is_published() else "error\tit is not acknowledged"


def take(it):
    try:
        message = messages.get(timeout=float(it["within"]))
    except queue.Empty:
        return "nothing"
    identifiers = getattr(message.properties, "SubscriptionIdentifier", [])
    return "\t".join((
        "message",
        f"topic={message.topic}",
        f"qos={message.qos}",
        f"retain={int(message.retain)}",
        f"payload={message.payload.hex()}",
        f"identifiers={','.join(map(str, identifiers))}",
    ))


def disconnect(_):
    client.disconnect()
    client.loop_stop()
    return "ok"


verbs = {
    "connect": connect,
    "subscribe": subscribe,
    "publish": publish,
    "next": take,
    "disconnect": disconnect,
}

for line in sys.stdin:
    verb, *fields = line.rstrip("\n").split("\t")
    try:
        answer = verbs[verb](dict(field.split("=", 1) for field in fields))
    except Exception as error:
        answer = f"error\t{error!r}"
    print(answer, flush=True)
