//! Filters and topics as a large installation has them, for tests and benches of routers.
//!
//! Sites have lines, lines have devices, and a device has a few subscribers: of 20 filters 16 are
//! exact, 3 have `+` and 1 has `#`; they have 3 to 6 levels. All are different.

// It is a module of a test and of the benches.
#![allow(unreachable_pub)]

/// The filter with this number.
pub fn filter(number: usize) -> String {
    let (device, kind) = (number / 3, number % 20);
    let [mut above, name, mut below] = levels(device, number);
    match kind {
        // Of one device, wherever it is.
        16 => above = above.split('/').map(|_| "+").collect::<Vec<_>>().join("/"),
        // All that a device measures.
        17 => below = below.split('/').map(|_| "+").collect::<Vec<_>>().join("/"),
        // On all devices of a line; there are only so many lines.
        18 if number < 4_000 => return format!("{above}/+/{below}"),
        18 => {
            let (_, rest) = above.split_once('/').unwrap_or_default();
            above = ["+", rest].join("/").trim_end_matches('/').to_string();
            below = below.split('/').map(|_| "+").collect::<Vec<_>>().join("/");
        }
        // Everything of a device.
        19 => below = "#".to_string(),
        _ => {}
    }
    format!("{above}/{name}/{below}")
}

/// One of the topics for which there are the first `filters` filters.
pub fn topic(number: usize, filters: usize) -> String {
    // Spread over all of them, in no order.
    let number = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let number = number as usize % filters;
    levels(number / 3, number).join("/")
}

/// What is above a device, the device, and what it measures.
fn levels(device: usize, measure: usize) -> [String; 3] {
    let (site, line) = (device % 97, device % 7);
    let above = match device % 4 {
        0 => format!("site-{site:03}"),
        1 => format!("site-{site:03}/line-{line}"),
        _ => format!("acme/site-{site:03}/line-{line}"),
    };
    let measure = MEASURES[measure % MEASURES.len()];
    let below = if device % 4 == 3 { format!("drive/{measure}") } else { measure.to_string() };
    [above, format!("device-{device:06}"), below]
}

const MEASURES: [&str; 12] = [
    "temperature",
    "pressure",
    "humidity",
    "state",
    "power",
    "voltage",
    "current",
    "speed",
    "level",
    "flow",
    "alarm",
    "battery",
];
