//! The libraries' clients.

use bytes::BytesMut;
use mqtt_core::{
    Buffer, Client, ConnAck, Connect, Event, Instant, Publish, Version, store::Fixed, wire::Packet,
};
use mqtt_protocol_core::mqtt::{
    Connection, Version as ProtocolVersion,
    common::Cursor,
    connection::Event as ConnectionEvent,
    packet::{GenericPacketTrait, Packet as GenericPacket},
    role,
};

use super::{MqttCore, MqttProtocolCore, RumqttcV4, RumqttcV5};
use crate::{codec::Codec, machine::Machine, packets, see};

impl Machine for MqttCore {
    const NAME: &'static str = "mqtt-core";
    type Client = (Client<Fixed<16, 2048>>, Buffer<256>);
    type Message = Publish<'static>;

    fn client(version: Version) -> Self::Client {
        let mut client = (Client::new(version, Fixed::new()), Buffer::new());
        client.0.connect(Instant::default(), &Connect::default(), &mut client.1).expect("room");
        client.1.clear();
        Self::receive(&mut client, packets::bytes(version, &Packet::ConnAck(ConnAck::default())));
        client
    }

    fn receive((client, out): &mut Self::Client, mut input: &'static [u8]) -> usize {
        let mut messages = 0;
        while !input.is_empty() {
            let event = client.poll(Instant::default(), &mut input, out).expect("valid");
            if let Some(Event::Message(ref message)) = event {
                see(message);
                messages += 1;
            }
            see(out);
            out.clear();
        }
        messages
    }

    fn message(_: Version, ours: &Packet<'static>) -> Self::Message {
        match ours {
            Packet::Publish(_, publish) => *publish,
            _ => unreachable!(),
        }
    }

    fn publish(client: &mut Self::Client, message: &Self::Message) {
        let id = client.0.publish(Instant::default(), message, &mut client.1).expect("room");
        see(&client.1);
        client.1.clear();
        if let Some(id) = id {
            let [high, low] = id.get().to_be_bytes();
            let ack = [0x40, 2, high, low];
            let mut input = &ack[..];
            while !input.is_empty() {
                let event = client.0.poll(Instant::default(), &mut input, &mut client.1);
                see(&event.expect("valid"));
            }
        }
    }
}

/// rumqttc's state machine takes packets and gives packets; its event loop decodes and encodes.
macro_rules! rumqttc {
    ($name:ident, $packet:ty, $publish:path, $request:ty, $state:ty, $limit:expr) => {
        impl Machine for $name {
            const NAME: &'static str = "rumqttc";
            type Client = ($state, BytesMut, BytesMut);
            type Message = $packet;

            fn client(_: Version) -> Self::Client {
                (<$state>::new(100, false), BytesMut::new(), BytesMut::new())
            }

            fn receive((state, input, out): &mut Self::Client, bytes: &'static [u8]) -> usize {
                input.extend_from_slice(bytes);
                let mut messages = 0;
                while let Ok(packet) = <$packet>::read(input, $limit) {
                    messages += usize::from(matches!(packet, $publish(_)));
                    if let Some(answer) = state.handle_incoming_packet(packet).expect("valid") {
                        answer.write(out, $limit).expect("room");
                    }
                    state.events.drain(..).for_each(|event| see(&event));
                    see(out);
                    out.clear();
                }
                messages
            }

            fn message(version: Version, ours: &Packet<'static>) -> Self::Message {
                let mut message = <Self as Codec>::packet(version, ours);
                if let $publish(publish) = &mut message {
                    publish.pkid = 0;
                }
                message
            }

            fn publish((state, _, out): &mut Self::Client, message: &Self::Message) {
                let $publish(message) = message else { unreachable!() };
                let request = <$request>::Publish(message.clone());
                let packet = state.handle_outgoing_packet(request).expect("valid");
                let Some(packet @ $publish(_)) = packet else { unreachable!() };
                packet.write(out, $limit).expect("room");
                see(out);
                out.clear();
                if let $publish(publish) = packet
                    && publish.pkid != 0
                {
                    let [high, low] = publish.pkid.to_be_bytes();
                    let mut input = BytesMut::from(&[0x40, 2, high, low][..]);
                    let ack = <$packet>::read(&mut input, $limit).expect("valid");
                    state.handle_incoming_packet(ack).expect("valid");
                }
                state.events.drain(..).for_each(|event| see(&event));
            }
        }
    };
}

rumqttc!(
    RumqttcV4,
    rumqttc::mqttbytes::v4::Packet,
    rumqttc::mqttbytes::v4::Packet::Publish,
    rumqttc::Request,
    rumqttc::MqttState,
    usize::MAX
);
rumqttc!(
    RumqttcV5,
    rumqttc::v5::mqttbytes::v5::Packet,
    rumqttc::v5::mqttbytes::v5::Packet::Publish,
    rumqttc::v5::Request,
    rumqttc::v5::MqttState,
    None
);

/// Does what the events ask for; gives the number of messages.
fn handle(events: Vec<ConnectionEvent>) -> usize {
    let mut messages = 0;
    for event in events {
        match event {
            ConnectionEvent::NotifyPacketReceived(packet) => {
                let is_message = matches!(
                    packet,
                    GenericPacket::V3_1_1Publish(_) | GenericPacket::V5_0Publish(_)
                );
                messages += usize::from(is_message);
                see(&packet);
            }
            ConnectionEvent::RequestSendPacket { packet, .. } => {
                see(&packet.to_continuous_buffer());
            }
            ConnectionEvent::NotifyError(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    messages
}

impl Machine for MqttProtocolCore {
    const NAME: &'static str = "mqtt-protocol-core";
    type Client = Connection<role::Client>;
    type Message = GenericPacket;

    fn client(version: Version) -> Self::Client {
        let number = if version.is_v5() { ProtocolVersion::V5_0 } else { ProtocolVersion::V3_1_1 };
        let mut client = Connection::new(number);
        client.set_auto_pub_response(true);
        let connect = Packet::Connect(version, Connect::default());
        handle(client.send(<Self as Codec>::packet(version, &connect)));
        let ack = packets::bytes(version, &Packet::ConnAck(ConnAck::default()));
        Self::receive(&mut client, ack);
        client
    }

    fn receive(client: &mut Self::Client, input: &'static [u8]) -> usize {
        let mut messages = 0;
        let mut cursor = Cursor::new(input);
        while cursor.position() < input.len() as u64 {
            messages += handle(client.recv(&mut cursor));
        }
        messages
    }

    fn message(version: Version, ours: &Packet<'static>) -> Self::Message {
        <Self as Codec>::packet(version, ours)
    }

    fn publish(client: &mut Self::Client, message: &Self::Message) {
        let id = match message {
            GenericPacket::V3_1_1Publish(publish) => publish.packet_id(),
            GenericPacket::V5_0Publish(publish) => publish.packet_id(),
            _ => unreachable!(),
        };
        if let Some(id) = id {
            client.register_packet_id(id).expect("free");
        }
        handle(client.send(message.clone()));
        if let Some(id) = id {
            let [high, low] = id.to_be_bytes();
            handle(client.recv(&mut Cursor::new(&[0x40, 2, high, low][..])));
        }
    }
}
