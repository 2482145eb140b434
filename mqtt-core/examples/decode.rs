//! Says what captured bytes are.
//!
//! Reads lines `VERSION HEX` on standard input, where VERSION is 4 (3.1.1, and a CONNECT of 3.1) or
//! 5 and HEX may have blanks in it, and answers each with one line:
//!
//! ```text
//! $ cargo run -q -p mqtt-core --example decode
//! 4 30 05 0001 74 6869 c000
//! ok Publish(Delivery { packet_id: None, dup: false }, Publish { topic: "t", ... }); bytes after it: 2
//! 4 30050001
//! incomplete; bytes missing: at least 3
//! 4 36050001746869
//! error the QoS is 3; reason code 0x81
//! 7 c000
//! error in this line: the version is neither 4 nor 5
//! ```

use std::io::{self, BufRead, Write};

use mqtt_core::{
    Version,
    wire::{Decoded, Packet},
};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().split(b'\n') {
        writeln!(out, "{}", answer(&String::from_utf8_lossy(&line?)))?;
    }
    Ok(())
}

/// The answer to one line.
pub fn answer(line: &str) -> String {
    let (version, bytes) = match parse(line) {
        Ok(parsed) => parsed,
        Err(what) => return format!("error in this line: {what}"),
    };
    match Packet::decode(version, &bytes) {
        Ok(Decoded::Packet { packet, len }) => {
            format!("ok {packet:?}; bytes after it: {}", bytes.len() - len)
        }
        Ok(Decoded::Incomplete { missing }) => {
            format!("incomplete; bytes missing: at least {missing}")
        }
        Err(error) => format!("error {error}; reason code {:#04x}", error.reason().as_u8()),
    }
}

fn parse(line: &str) -> Result<(Version, Vec<u8>), &'static str> {
    let line = line.trim();
    let (version, hex) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let version = match version {
        "4" => Version::V3_1_1,
        "5" => Version::V5,
        _ => return Err("the version is neither 4 nor 5"),
    };
    let digits = hex.chars().filter(|digit| !digit.is_whitespace());
    let digits: Option<Vec<_>> = digits.map(|digit| digit.to_digit(16)).collect();
    let digits = digits.ok_or("the bytes are not hexadecimal")?;
    match digits.as_chunks() {
        (pairs, []) => Ok((version, pairs.iter().map(|[a, b]| (a << 4 | b) as u8).collect())),
        _ => Err("the last byte is half a byte"),
    }
}
