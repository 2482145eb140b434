//! `mqtt completions`, `mqtt man`, `--help`.

use std::fs;

use crate::support::{mqtt, unheard};

const COMMANDS: [&str; 7] = ["broker", "pub", "sub", "bench", "passwd", "completions", "man"];

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let completions = mqtt(&["completions", shell]).ok();
        for word in ["passwd", "retained-only", "max-queued-bytes", "will-topic"] {
            assert!(completions.contains(word), "{shell}: {word}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_an_error() {
    assert_eq!(unheard(&["completions", "bash"]), 1);
    assert_eq!(unheard(&["pub", "-t", "a", "-m", "x", "-p", "1"]), 14);
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().join("man1");
    mqtt(&["man", pages.to_str().expect("a name")]).ok();
    assert!(pages.join("mqtt.1").exists());
    for command in COMMANDS {
        let page = fs::read_to_string(pages.join(format!("mqtt-{command}.1"))).expect("a page");
        assert!(page.contains("Examples:"), "{command}");
    }
}

#[test]
fn help_has_examples() {
    for command in COMMANDS {
        let help = mqtt(&[command, "--help"]).ok();
        assert!(help.contains("Examples:\n  "), "{help}");
    }
    let help = mqtt(&["sub", "--help"]).ok();
    assert!(help.contains("27      timed out"), "{help}");
    assert!(help.contains("%J"), "{help}");
}
