//! The example that says what captured bytes are.

use super::*;

#[path = "../../examples/decode.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod program;

use program::answer;

#[test]
fn packets_errors_and_beginnings_are_told() {
    let told = [
        ("4 c000", "ok PingReq; bytes after it: 0"),
        ("5 C0 00 d0 00 ff\r", "ok PingReq; bytes after it: 3"),
        (
            "5 40 03 0007 10",
            "ok PubAck(PacketId(7), Ack { reason: NoMatchingSubscribers, properties: [] }); \
             bytes after it: 0",
        ),
        ("4", "incomplete; bytes missing: at least 2"),
        ("5 ", "incomplete; bytes missing: at least 2"),
        ("5 30", "incomplete; bytes missing: at least 1"),
        ("4 300a0001", "incomplete; bytes missing: at least 8"),
        ("4 00", "error no such packet type; reason code 0x81"),
        ("5 82 03 0001 00", "error a list without elements; reason code 0x82"),
        ("4 c0 01", "error the packet is longer than its fields; reason code 0x81"),
        ("", "error in this line: the version is neither 4 nor 5"),
        ("6 c000", "error in this line: the version is neither 4 nor 5"),
        ("c000", "error in this line: the version is neither 4 nor 5"),
        ("4 c00", "error in this line: the last byte is half a byte"),
        ("4 c0 0x", "error in this line: the bytes are not hexadecimal"),
        ("5 c0\u{fffd}0", "error in this line: the bytes are not hexadecimal"),
    ];
    for (line, expected) in told {
        assert_eq!(answer(line), expected, "{line:?}");
    }
}

#[test]
fn every_packet_is_told_in_one_line() {
    valid::valid(&mut |versions, hex, packet| {
        let version = if versions.contains(&Version::V5) { 5 } else { 4 };
        if versions != V3_1 || matches!(packet, Packet::Connect(..)) {
            let line = answer(&format!("{version} {hex}"));
            assert_eq!(line, format!("ok {packet:?}; bytes after it: 0"));
            assert_eq!(line.lines().count(), 1);
        }
    });
    for (version, [hex, ..]) in invalid() {
        let line = match version {
            Version::V3_1 => continue,
            Version::V3_1_1 => answer(&format!("4 {hex}")),
            Version::V5 => answer(&format!("5 {hex}")),
        };
        assert!(line.starts_with("error ") && line.contains("; reason code 0x"), "{line}");
    }
}
