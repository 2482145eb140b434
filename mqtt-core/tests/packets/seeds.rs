//! The fuzzer starts from these tables.

use std::{env, fs, path::Path};

use super::*;

/// The seeds under `fuzz/seeds` are what the tables say. `SEEDS=write` makes them so.
///
/// The first byte chooses the version, the packet follows. A packet of several versions is a seed
/// of the last of them. There may be other seeds beside these.
#[test]
fn seeds_of_the_fuzzer() {
    let mut packets = Vec::new();
    valid::valid(&mut |versions, hex, _| {
        packets.push((*versions.last().unwrap(), bytes(hex)));
    });
    packets.extend(redundant().map(|(version, [hex, _])| (version, bytes(hex))));
    packets.dedup();

    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let write = env::var_os("SEEDS").is_some_and(|value| value == "write");
    for target in ["decode", "round_trip"] {
        for (index, (version, packet)) in packets.iter().enumerate() {
            let path = seeds.join(target).join(format!("packet-{index:03}"));
            let seed = [&[*version as u8], &packet[..]].concat();
            if write {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &seed).unwrap();
            }
            let found = fs::read(&path).unwrap_or_default();
            assert_eq!(found, seed, "{}: run the tests with SEEDS=write", path.display());
        }
    }
}
