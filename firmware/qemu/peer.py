"""paho-mqtt as a client of the broker in QEMU: each QoS, a will, a session that is resumed."""

import queue
import sys
import threading

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version = int(sys.argv[1]), sys.argv[2]
is_v5 = version == "5"
protocol = mqtt.MQTTv5 if is_v5 else mqtt.MQTTv311


class Client:
    def __init__(self, name, clean=True, will=None):
        options = {} if is_v5 else {"clean_session": clean}
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, **options
        )
        self.messages = queue.Queue()
        self.events = queue.Queue()
        self.mqtt.on_message = lambda _, __, message: self.messages.put(message)
        self.mqtt.on_connect = lambda _, __, flags, code, ___: self.events.put((flags, code))
        self.mqtt.on_subscribe = lambda _, __, ___, codes, ____: self.events.put(codes)
        if will:
            self.mqtt.will_set(*will)
        options = {}
        if is_v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if clean else 600
            options = {"clean_start": clean, "properties": properties}
        self.mqtt.connect("127.0.0.1", port, keepalive=30, **options)
        self.mqtt.loop_start()
        self.flags, code = self.events.get(timeout=20)
        assert not code.is_failure, code

    def subscribe(self, topic, qos):
        self.mqtt.subscribe(topic, qos)
        codes = self.events.get(timeout=20)
        assert [code.value for code in codes] == [qos], codes

    def publish(self, topic, payload, qos):
        self.mqtt.publish(topic, payload, qos).wait_for_publish(20)

    def next(self):
        message = self.messages.get(timeout=20)
        return message.topic, message.payload.decode(), message.qos

    def leave(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


reader = Client(f"reader{version}", clean=False)
reader.subscribe(f"paho/{version}/#", 2)
writer = Client(f"writer{version}")
numbers = range(50)
for number in numbers:
    for qos in range(3):
        writer.publish(f"paho/{version}/{qos}", str(number), qos)
heard = {0: [], 1: [], 2: []}
for _ in range(3 * len(numbers)):
    topic, payload, qos = reader.next()
    assert topic.endswith(str(qos)), (topic, qos)
    heard[qos].append(int(payload))
assert all(got == list(numbers) for got in heard.values()), heard

reader.leave()
for qos in (1, 2):
    writer.publish(f"paho/{version}/away", f"meanwhile {qos}", qos)
reader = Client(f"reader{version}", clean=False)
assert reader.flags.session_present, reader.flags
waited = [reader.next()[1] for _ in range(2)]
assert waited == ["meanwhile 1", "meanwhile 2"], waited

doomed = Client(f"doomed{version}", will=(f"paho/{version}/will", "gone", 1, False))
doomed.mqtt.loop_stop()
doomed.mqtt.socket().close()
assert reader.next() == (f"paho/{version}/will", "gone", 1)
reader.leave()
writer.leave()
